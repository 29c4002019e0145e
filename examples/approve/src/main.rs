//! Your own action: approves refunds up to `REFUND_LIMIT` (default 100) and rejects all others.

use aws::ConfigError;
use downstream::{Function, MiMalloc};
use lambda_runtime::Error;
use notification::{Action, ActionError, Deadline, Effect, Guarantee, Notification, Outcome};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

struct Approve {
    limit: Decimal,
}

#[derive(Deserialize)]
struct Refund<'a> {
    /// As text, because a float would be rounded.
    #[serde(borrow)]
    amount: &'a RawValue,
}

impl Action for Approve {
    fn guarantee(&self) -> Guarantee {
        // The only effect is the outcome, which is stored together with DONE. `Effect::writes` would be part of the same
        // transaction. For calls to other systems, choose Idempotent or AtMostOnce.
        Guarantee::Transactional
    }

    async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        // Rejected sets FAILED with this reason. After Retry or MayHaveHappened, the notification is retried.
        let data = notification.data().ok_or_else(|| rejected("the notification has no data"))?;
        let refund: Refund = serde_json::from_str(data).map_err(|_| rejected("the data needs one amount"))?;
        let amount = positive_decimal(refund.amount.get().trim_matches('"'))
            .ok_or_else(|| rejected("the amount is not a positive decimal number"))?;
        if amount > self.limit {
            return Err(rejected("the amount is above the limit"));
        }
        let outcome = Outcome::new(&json!({"approved": true, "limit": self.limit}));
        Ok(Effect { outcome: Some(outcome), writes: vec![] })
    }
}

fn rejected(reason: &str) -> ActionError {
    ActionError::Rejected(reason.to_owned())
}

/// A number greater than zero: digits, with at most one point between them. `Decimal` alone also accepts "+1", "1_0", ".5"
/// and "1.".
fn positive_decimal(text: &str) -> Option<Decimal> {
    let is_digit = |char: char| char.is_ascii_digit();
    let is_plain = text.starts_with(is_digit) && text.ends_with(is_digit) && !text.contains('_');
    Decimal::from_str_exact(text).ok().filter(|number| is_plain && *number > Decimal::ZERO)
}

fn parse_limit(text: &str) -> Result<Decimal, ConfigError> {
    let problem = "it is not a positive decimal number".to_owned();
    positive_decimal(text).ok_or(ConfigError::Wrong { name: "REFUND_LIMIT", problem })
}

/// It costs less CPU than the C library's (docs/PERFORMANCE.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::start().await?;
    let limit = parse_limit(function.environment().get("REFUND_LIMIT").unwrap_or("100"))?;
    downstream::run(function, Approve { limit }).await
}

#[cfg(test)]
mod tests;
