//! What the documents say of the endpoints, from the table that serves them.

use super::endpoints::{ENDPOINTS, Kind};
use super::guard::Audience;

/// One endpoint.
#[derive(Clone, Debug)]
pub struct EndpointReference {
    /// With the leading slash.
    pub path: String,
    /// The methods that it answers where the file does not say otherwise.
    pub methods: &'static str,
    /// Who may call it where tokens are configured.
    pub audience: &'static str,
    /// In the order in which they are documented.
    pub params: Vec<ParamReference>,
    /// What it does, in a few sentences.
    pub text: &'static str,
}

/// One parameter of an endpoint.
#[derive(Clone, Debug)]
pub struct ParamReference {
    /// As it stands in a query.
    pub name: &'static str,
    /// False for what may be left out.
    pub is_required: bool,
    /// What may be written.
    pub expected: &'static str,
    /// What it is for.
    pub text: &'static str,
}

/// Every endpoint, in the order in which they are documented.
pub fn reference() -> Vec<EndpointReference> {
    let of = |endpoint: &super::endpoints::Endpoint| EndpointReference {
        path: format!("/{}", endpoint.path),
        methods: match endpoint.kind {
            Kind::Read | Kind::Probe => "GET, HEAD, POST",
            Kind::Change => "GET, POST",
            Kind::PostedChange => "POST",
        },
        audience: match endpoint.audience {
            Audience::Everyone => "everyone",
            Audience::Workers | Audience::Both => "token or register token",
            Audience::Readers => "token or read token",
            Audience::Operators => "token",
        },
        params: endpoint.params.iter().map(param).collect(),
        text: endpoint.doc,
    };
    ENDPOINTS.iter().map(of).collect()
}

fn param(param: &super::params::Param) -> ParamReference {
    ParamReference {
        name: param.name,
        is_required: param.is_required,
        expected: param.expected,
        text: param.doc.trim_start(),
    }
}
