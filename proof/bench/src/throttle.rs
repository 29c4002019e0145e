//! A part of a CPU, as Lambda gives it by the memory setting: a control group with a quota.
//! <https://docs.kernel.org/scheduler/sched-bwc.html>

use crate::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Megabytes for which Lambda gives one whole CPU.
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>
const MEGABYTES_OF_A_CPU: u64 = 1_769;

/// The quota is for so long. AWS does not say what its own is.
const PERIOD: Duration = Duration::from_millis(20);

/// The process that writes it into a group joins it.
const OURSELVES: &str = "0";

/// A control group; it is removed with its owner, after the processes in it have ended.
#[derive(Debug)]
pub(crate) struct Throttle {
    dir: PathBuf,
}

impl Throttle {
    /// A group with the CPU of so many megabytes.
    pub(crate) fn of(megabytes: u64) -> Result<Self, Error> {
        let root = Path::new("/sys/fs/cgroup");
        let is_unified = root.join("cgroup.controllers").exists();
        let parent = if is_unified { root.to_owned() } else { root.join("cpu") };
        let dir = parent.join(format!("bench-{}-{megabytes}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|cause| Error::Throttle { path: dir.clone(), cause })?;
        let throttle = Self { dir };
        let period = u64::try_from(PERIOD.as_micros()).unwrap_or(u64::MAX);
        let quota = period * megabytes / MEGABYTES_OF_A_CPU;
        if is_unified {
            throttle.write("cpu.max", &format!("{quota} {period}"))?;
        } else {
            throttle.write("cpu.cfs_period_us", &period.to_string())?;
            throttle.write("cpu.cfs_quota_us", &quota.to_string())?;
        }
        Ok(throttle)
    }

    /// Does something inside it, such as starting a process, which stays there. We go back to the group above.
    pub(crate) fn inside<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        let above = self.dir.with_file_name("cgroup.procs");
        self.write("cgroup.procs", OURSELVES)?;
        let done = work();
        std::fs::write(&above, OURSELVES).map_err(|cause| Error::Throttle { path: above, cause })?;
        Ok(done)
    }

    fn write(&self, name: &str, value: &str) -> Result<(), Error> {
        let path = self.dir.join(name);
        std::fs::write(&path, value).map_err(|cause| Error::Throttle { path, cause })
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // What is left of it has no process and does no harm.
        let _ = std::fs::remove_dir(&self.dir);
    }
}
