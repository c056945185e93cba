//! `goproxy reload`: a running proxy reads its file, and the exit code says what came of it.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::admin::AdminArgs;
use super::output::{print, print_error};
use crate::admin_client::{AdminClient, AskError};

/// How long a token that stands in the file may be unknown to the proxy: it looks at the file every second.
const TOKEN_WAIT: Duration = Duration::from_secs(5);

/// The pause between two attempts with it.
const TOKEN_PAUSE: Duration = Duration::from_millis(250);

/// The arguments of `reload`.
#[derive(Args, Debug)]
pub struct ReloadArgs {
    /// Where the proxy is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Has the proxy read its file and prints what has changed.
///
/// # Errors
///
/// The proxy cannot be asked, or the file has mistakes; they are printed, one per line.
pub fn reload(args: &ReloadArgs) -> anyhow::Result<()> {
    let token_wait = if args.admin.has_token_of_file() { TOKEN_WAIT } else { Duration::ZERO };
    match args.admin.ask(async |client| Ok(ask(&client, token_wait).await))? {
        Ok(answer) => print(&format!("{}\n", answer["msg"].as_str().unwrap_or("reloaded"))),
        Err(error) => {
            if let AskError::Refused { mistakes, .. } = &error {
                mistakes.iter().for_each(|mistake| print_error(format_args!("{mistake}")));
            }
            Err(error.into())
        }
    }
}

/// A token that has just been changed in the file is refused until the proxy has noticed.
async fn ask(client: &AdminClient, token_wait: Duration) -> Result<Value, AskError> {
    let deadline = Instant::now() + token_wait;
    loop {
        match client.post("/config-reload.do").await {
            Err(AskError::Refused { status: 401, .. }) if Instant::now() < deadline => sleep(TOKEN_PAUSE).await,
            answer => return answer,
        }
    }
}
