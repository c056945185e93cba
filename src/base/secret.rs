//! A secret, which no `Debug`, log or error shows.

/// A secret and how it was written.
///
/// It remembers how it was written, so that a dump of the file keeps `env:NAME` and `file:PATH`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    written: String,
}

impl Secret {
    /// Wraps a secret.
    pub fn new(text: String) -> Self {
        Self { written: text.clone(), value: text }
    }

    /// A secret that stands elsewhere, and how the file refers to it.
    pub(crate) fn referred_to(value: String, written: String) -> Self {
        Self { value, written }
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// What the file says: the secret itself, `env:NAME` or `file:PATH`.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
