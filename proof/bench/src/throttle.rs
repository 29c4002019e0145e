//! Limits a process to the part of a CPU that comes with a memory setting of Lambda, by a control group with a quota.
//! <https://docs.kernel.org/scheduler/sched-bwc.html>

use crate::error::Error;
use crate::limits;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Period of the quota. AWS does not document its own.
const PERIOD: Duration = Duration::from_millis(20);

/// A process joins a group by writing this into it.
const OURSELVES: &str = "0";

/// A control group. Dropping it removes the group, whose processes must have ended.
#[derive(Debug)]
pub(crate) struct Throttle {
    dir: PathBuf,
}

impl Throttle {
    /// A group with the CPU that comes with this memory setting.
    pub(crate) fn of(megabytes: u64) -> Result<Self, Error> {
        let root = Path::new("/sys/fs/cgroup");
        let is_unified = root.join("cgroup.controllers").exists();
        let parent = if is_unified { root.to_owned() } else { root.join("cpu") };
        let throttle = Self { dir: parent.join(format!("bench-{}-{megabytes}", std::process::id())) };
        let made = std::fs::create_dir_all(&throttle.dir);
        made.map_err(Error::cannot(format!("make {} (control groups need root)", throttle.dir.display())))?;
        let period = u64::try_from(PERIOD.as_micros()).unwrap_or(u64::MAX);
        let quota = period * megabytes / limits::MEGABYTES_OF_A_CPU;
        if is_unified {
            write(&throttle.dir.join("cpu.max"), &format!("{quota} {period}"))?;
        } else {
            write(&throttle.dir.join("cpu.cfs_period_us"), &period.to_string())?;
            write(&throttle.dir.join("cpu.cfs_quota_us"), &quota.to_string())?;
        }
        Ok(throttle)
    }

    /// Runs `work` inside the group. A process that it starts stays there, but this process returns to the parent group.
    pub(crate) fn inside<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        write(&self.dir.join("cgroup.procs"), OURSELVES)?;
        let done = work();
        write(&self.dir.with_file_name("cgroup.procs"), OURSELVES)?;
        Ok(done)
    }
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    std::fs::write(path, value).map_err(Error::cannot(format!("write {} (control groups need root)", path.display())))
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // An empty group that is left behind does no harm.
        let _ = std::fs::remove_dir(&self.dir);
    }
}
