//! Whether the webhooks are set up, and, where that is asked for, whether each takes an alert.

use super::Check;
use crate::commands::block_on;
use crate::config::Config;
use smartlog_sinks::alerts::{AlertsConfig, HookConfig, send_test};

/// `send`: each hook is sent a made-up alert.
pub(super) fn checks(config: &Config, send: bool) -> anyhow::Result<Vec<Check>> {
    let alerts = match config.alerts.config() {
        Ok(Some(alerts)) => alerts,
        Ok(None) => return Ok(vec![Check::skipped("alerts", "no hook is set: alerts.hooks")]),
        Err((key, fault)) => {
            return Ok(vec![Check::failed("alerts", format!("{key}: {fault}"), "mend that setting")]);
        }
    };
    if !send {
        let names: Vec<&str> = alerts.hooks.iter().map(|hook| hook.name.as_str()).collect();
        let found = format!("{}; --send-test-alert tries them", names.join(", "));
        return Ok(vec![Check::ok("alerts", found)]);
    }
    alerts.hooks.iter().map(|hook| tried(hook, &alerts)).collect()
}

fn tried(hook: &HookConfig, alerts: &AlertsConfig) -> anyhow::Result<Check> {
    let name = format!("alert, {}", hook.name);
    Ok(match block_on(send_test(hook, alerts))? {
        Ok(()) => Check::ok(name, format!("the test alert was taken ({})", hook.format.name)),
        Err(found) => {
            let advice = format!(
                "check the address in alerts.url_files, that it is one for {}, and that it can be reached from here",
                hook.format.name
            );
            Check::failed(name, found, advice)
        }
    })
}
