//! What this machine has and what this process took.
//!
//! Memory that may be used is the smallest of what the kernel calls available,
//! what the process' control groups still allow and what its own limit on
//! addresses (`ulimit -v`) leaves; a group's file cache does not count, since the
//! kernel drops it when memory is asked for. Elsewhere than on Linux nothing is
//! known, and nothing is refused for it.
//!
//! Sources: `proc(5)` (`MemAvailable`, `VmHWM`, `VmSize`, `limits`); the kernel's
//! `admin-guide/cgroup-v2` (`memory.max`, `memory.current`, `memory.stat`) and
//! `cgroup-v1/memory` (`memory.limit_in_bytes`, `memory.usage_in_bytes`).

use std::{
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
};

/// Bytes that this process may still take, if the system says.
pub(crate) fn available_memory_bytes() -> Option<u64> {
    let machine = kib_field(&read("/proc/meminfo"), "MemAvailable:")?;
    let groups = read("/proc/self/cgroup");
    let limits = group_folders(&groups).into_iter().filter_map(|group| group.room_bytes());
    let addresses = address_room_bytes(&read("/proc/self/limits"), &read("/proc/self/status"));
    limits.chain(addresses).chain([machine]).min()
}

/// Most memory that this process ever held, in bytes, if the system says.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    kib_field(&read("/proc/self/status"), "VmHWM:")
}

/// Threads that this process may run at once.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// A seed nobody chose, short enough to be typed again.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 32
}

/// A control group's folder, and how its files are called.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    names: &'static Names,
}

/// Names of a control group's files and of its droppable file cache.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    limit: &'static str,
    usage: &'static str,
    file_cache: &'static str,
}

const VERSION_2: Names =
    Names { limit: "memory.max", usage: "memory.current", file_cache: "inactive_file" };
const VERSION_1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    file_cache: "total_inactive_file",
};

impl Group {
    /// Bytes until the limit; none if there is no limit (`max`).
    fn room_bytes(&self) -> Option<u64> {
        let number = |name| read(self.folder.join(name)).trim().parse::<u64>().ok();
        let limit = number(self.names.limit)?;
        let usage = number(self.names.usage)?;
        let statistics = read(self.folder.join("memory.stat"));
        let droppable = field(&statistics, self.names.file_cache).unwrap_or(0);
        Some(limit.saturating_sub(usage.saturating_sub(droppable)))
    }
}

/// The folders of the groups named in `/proc/self/cgroup`, with all groups above
/// them, whose limits hold too.
fn group_folders(groups: &str) -> Vec<Group> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, names) = match controllers {
            "" => ("/sys/fs/cgroup", &VERSION_2),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", &VERSION_1)
            }
            _ => continue,
        };
        let inside = Path::new(path.trim_start_matches('/'));
        let above = inside.ancestors().map(|ancestor| Path::new(root).join(ancestor));
        folders.extend(above.map(|folder| Group { folder, names }));
    }
    folders
}

/// Bytes of addresses that the process' own limit leaves; none if it has none.
fn address_room_bytes(limits: &str, status: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(kib_field(status, "VmSize:")?))
}

/// The number after `name` in lines such as `MemAvailable:  21582 kB`, in bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.checked_mul(1024)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_ascii_whitespace);
    lines.find_map(|mut words| {
        let found = words.next() == Some(name);
        words.next().filter(|_| found)?.parse().ok()
    })
}

/// A file of the system's; empty if there is none.
fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_lines() {
        let meminfo = "MemTotal:   24684536 kB\nMemFree:  17 kB\nMemAvailable:   22100992 kB\n";

        assert_eq!(kib_field(meminfo, "MemAvailable:"), Some(22_100_992 * 1024));
        assert_eq!(kib_field(meminfo, "VmHWM:"), None);
    }

    #[test]
    fn addresses_are_limited_by_the_shell() {
        let status = "VmPeak:\t  9000 kB\nVmSize:\t  8000 kB\n";
        let limits =
            |soft: &str| format!("Limit  Soft\nMax address space  {soft}  unlimited  bytes\n");

        let room = |soft| address_room_bytes(&limits(soft), status);
        assert_eq!(room("10240000"), Some(10_240_000 - 8000 * 1024));
        assert_eq!(room("1024"), Some(0));
        assert_eq!(room("unlimited"), None);
    }

    #[test]
    fn groups_above_limit_their_members() {
        let version_2 = group_folders("0::/user/job\n");
        let version_1 = group_folders("5:cpu,cpuacct:/x\n4:memory:/docker/1\n");

        let folders = |groups: Vec<Group>| -> Vec<_> {
            groups.into_iter().map(|group| group.folder.display().to_string()).collect()
        };
        assert_eq!(
            folders(version_2),
            ["/sys/fs/cgroup/user/job", "/sys/fs/cgroup/user", "/sys/fs/cgroup/"]
        );
        assert_eq!(
            folders(version_1),
            [
                "/sys/fs/cgroup/memory/docker/1",
                "/sys/fs/cgroup/memory/docker",
                "/sys/fs/cgroup/memory/"
            ]
        );
    }

    #[test]
    fn file_cache_of_a_group_can_be_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("memory.max", "1000\n");
        write("memory.current", "700\n");
        write("memory.stat", "anon 100\ninactive_file 600\n");
        let group = Group { folder: folder.path().into(), names: &VERSION_2 };

        assert_eq!(group.room_bytes(), Some(900));
        write("memory.max", "max\n");
        assert_eq!(group.room_bytes(), None);
    }
}
