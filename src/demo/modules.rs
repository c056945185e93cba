//! The steps with a policy in WebAssembly: dropped in, broken, mended, all under traffic.

use anyhow::Context;
use serde_json::Value;

use super::echo::SERVERS;
use super::script::Script;
use crate::base::text::{grouped, hex};

/// A sample of the folder `policies/`: a client's IP decides.
const GOOD: &str = include_str!("../../policies/client_hash.wat");

/// Answers for a while and then loops for ever.
const LOOPS: &str = include_str!("loops.wat");

/// The file in the folder, and the policy's name.
const FILE: &str = "mine.wat";
const POLICY: &str = "wasm:mine";

impl Script<'_> {
    pub(super) async fn drop_in_a_module(&mut self) -> anyhow::Result<()> {
        self.screen.headline("6. A policy of your own is dropped in");
        self.write_module(GOOD)?;
        let path = format!("/group-policy.do?group={}&policy={POLICY}", self.port());
        self.screen.command(&format!("cp client_hash.wat policies/{FILE}"));
        self.screen.command(&format!("curl \"http://{}{path}\"", self.stage.admin.0));
        self.stage.admin.call(&path).await?;
        let explained =
            self.stage.admin.call(&format!("/policy-explain.do?group={}&client=127.0.0.2", self.port())).await?;
        self.screen.say(&format!(
            "   It decides by the client's address: 127.0.0.2 would get {}.",
            explained["server"].as_str().unwrap_or("nobody")
        ));
        self.next_phase("wasm").await?;
        let phase = self.flow().await?;
        let faithful = phase.met.values().filter(|servers| servers.len() == 1).count();
        self.expect(phase.met.len() == faithful, || "a client address met several servers under wasm:mine".into());
        Ok(())
    }

    pub(super) async fn break_the_module(&mut self) -> anyhow::Result<()> {
        self.screen.headline("7. It is overwritten with a version that loops for ever");
        let errors = self.tally()?.errors;
        self.write_module(LOOPS)?;
        self.next_phase("broken").await?;
        self.until("the looping policy is set aside", "/policy-list.do", |answer| {
            module(answer)["state"] == "quarantined"
        })
        .await?;
        let phase = self.flow().await?;
        let counters = self.stage.admin.counters().await?;
        self.screen.say(&format!(
            "   It was stopped {} times, after 5 ms each, and set aside.\n   \
             round_robin, its fallback, served {} clients. Clients that noticed: {}.",
            counters.sum("policy_faults_total"),
            grouped(counters.sum("policy_fallbacks_total")),
            self.tally()?.errors - errors,
        ));
        let everybody = phase.sessions.iter().filter(|count| **count > 0).count();
        self.expect(everybody == SERVERS, || format!("not spread by the fallback: {:?}", phase.sessions));
        Ok(())
    }

    pub(super) async fn mend_the_module(&mut self) -> anyhow::Result<()> {
        self.screen.headline("8. The good version is put back");
        self.write_module(GOOD)?;
        let is_good = |answer: &Value| module(answer)["state"] == "loaded" && module(answer)["sha256"] == sha256(GOOD);
        self.until("the good version is loaded", "/policy-list.do", is_good).await?;
        self.screen.say("   It takes over at once. Nothing was restarted.");
        self.next_phase("mended").await?;
        let phase = self.flow().await?;
        let faithful = phase.met.values().filter(|servers| servers.len() == 1).count();
        self.expect(phase.met.len() == faithful, || "a client address met several servers after the repair".into());
        Ok(())
    }

    fn write_module(&self, text: &str) -> anyhow::Result<()> {
        let folder = self.stage.folder.path().join("policies");
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(folder.join(FILE), text))
            .with_context(|| format!("cannot write policies/{FILE}"))
    }
}

/// What `policy-list.do` says of the module.
fn module(answer: &Value) -> &Value {
    let mut policies = answer["policies"].as_array().into_iter().flatten();
    policies.find(|policy| policy["name"] == POLICY).unwrap_or(&Value::Null)
}

fn sha256(text: &str) -> String {
    use crate::policy::wasm::source;
    hex(&source::sha256(text.as_bytes()))
}
