//! downstream with the actions that come with it, one chosen by `ACTION`.

use actions::Chosen;
use downstream::Wiring;
use lambda_runtime::Error;
use mimalloc::MiMalloc;

/// Cheaper than the C library's (docs/PERFORMANCE.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let wiring = Wiring::new().await?;
    let action = Chosen::from_environment(wiring.environment(), wiring.sdk()).await?;
    downstream::run(wiring, action).await
}
