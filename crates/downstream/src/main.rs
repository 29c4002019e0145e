//! downstream with one of the actions in `actions`, chosen by `ACTION`.

use actions::Chosen;
use downstream::{Function, MiMalloc};
use lambda_runtime::Error;

/// It uses less CPU time than the C library's allocator (docs/PERFORMANCE.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::start().await?;
    let action = Chosen::from_environment(function.environment(), function.sdk()).await?;
    downstream::run(function, action).await
}
