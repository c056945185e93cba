//! `goproxy upgrade`: a new process takes over from a running proxy, and the exit code says whether it has.

use std::time::Duration;

use clap::Args;

use super::admin::AdminArgs;
use super::output::print;
use crate::base::text::count;

/// How long an upgrade may take: all its steps together, and some more.
const UPGRADE_MAX: Duration = Duration::from_secs(90);

/// The arguments of `upgrade`.
#[derive(Args, Debug)]
pub struct UpgradeArgs {
    /// Where the proxy is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Has the proxy hand over to a new process, and prints which that is.
///
/// # Errors
///
/// The proxy cannot be asked, or it goes on as before; the error says why.
pub fn upgrade(args: &UpgradeArgs) -> anyhow::Result<()> {
    let asked =
        async |client: crate::admin_client::AdminClient| Ok(client.post_and_wait("/upgrade.do", UPGRADE_MAX).await?);
    let answer = args.admin.ask(asked)?;
    let left = answer["sessions_left"].as_u64().and_then(|left| usize::try_from(left).ok()).unwrap_or(0);
    let msg = answer["msg"].as_str().unwrap_or("a new process has taken over");
    print(&format!("{msg}; {} in the old one\n", count(left, "session")))
}
