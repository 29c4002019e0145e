//! downstream with the actions that come with it, one chosen by `ACTION`.

use actions::Chosen;
use lambda_runtime::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let wiring = downstream::Wiring::new()?;
    let action = Chosen::from_environment(wiring.environment())?;
    downstream::run(wiring, action).await
}
