//! An action of your own: approves refunds up to `REFUND_LIMIT` (100 if it is not set), and refuses the others.

use aws::config::{ConfigError, Environment};
use downstream::Wiring;
use lambda_runtime::Error;
use notification::{Action, ActionError, Deadline, Effect, Guarantee, Notification, Outcome};
use serde_json::{Value, json};

struct Approve {
    limit: f64,
}

impl Action for Approve {
    fn guarantee(&self) -> Guarantee {
        // It has no effect but what is stored with DONE, in one write. Add `Effect::writes`, and they are in one
        // transaction with it. For calls to the outside, choose Idempotent or AtMostOnce.
        Guarantee::Transactional
    }

    async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        // Rejected: FAILED, with this reason. Retry and MayHaveHappened bring the notification again.
        let rejected = |reason: &str| ActionError::Rejected(reason.to_owned());
        let data = notification.data().ok_or_else(|| rejected("the notification has no data"))?;
        let data: Value = serde_json::from_str(data).map_err(|_| rejected("the data cannot be read"))?;
        let amount = data["amount"].as_str().and_then(|amount| amount.parse::<f64>().ok());
        match amount {
            None => Err(rejected("the data has no amount")),
            Some(amount) if amount > self.limit => Err(rejected("the amount is above the limit")),
            Some(_) => {
                let outcome = Outcome::new(&json!({"approved": true, "limit": self.limit}));
                Ok(Effect { outcome: Some(outcome), writes: vec![] })
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let wiring = Wiring::new().await?;
    let limit = match wiring.environment().get("REFUND_LIMIT") {
        None => 100.0,
        Some(text) => text
            .parse()
            .map_err(|_| ConfigError::Wrong { name: "REFUND_LIMIT", problem: "it is no number".to_owned() })?,
    };
    downstream::run(wiring, Approve { limit }).await
}
