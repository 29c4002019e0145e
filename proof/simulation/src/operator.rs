//! The commands of operators: what `notifyctl redrive` and `notifyctl resolve` run, over the ports of the simulation.

use crate::ports::Ports;
use crate::world::Command;
use notification::NotificationId;
use notification::operator::decide;

/// Runs a command to its end.
pub(crate) async fn run(command: Command, ports: Ports) -> Result<String, String> {
    let id = NotificationId::parse(&command.id).map_err(|invalid| invalid.to_string())?;
    let decided = decide(&ports, &ports, &id, command.decision, command.seen).await;
    let decided = decided.map_err(|failure| failure.to_string())?;
    Ok(format!("{decided:?}"))
}
