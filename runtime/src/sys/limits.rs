//! The system's limits: how many descriptors and how many mappings the process may have.

use std::io::Read;

/// The soft limit of RLIMIT_NOFILE; `u64::MAX` when there is none.
pub(crate) fn descriptors() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the answer.
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    if asked == 0 { limit.rlim_cur } else { u64::MAX }
}

/// The largest stack that `generator` will map: the hard limit of RLIMIT_STACK.
pub(crate) fn largest_stack() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the answer.
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_STACK, &mut limit) };
    if asked == 0 { limit.rlim_max } else { u64::MAX }
}

/// The size of a page in bytes.
pub(crate) fn page_size() -> usize {
    // SAFETY: takes no pointer.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// `vm.max_map_count`; Linux's default where it can't be read.
pub(crate) fn max_map_count() -> usize {
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65_530)
}

/// How many mappings the process has now; 0 where it can't be read.
pub(crate) fn mappings() -> usize {
    let Ok(mut maps) = std::fs::File::open("/proc/self/maps") else {
        return 0;
    };
    // On the heap: this runs on greenlets' stacks too.
    let mut buffer = vec![0u8; 64 * 1024];
    let mut lines = 0;
    loop {
        match maps.read(&mut buffer) {
            Ok(0) => return lines,
            Ok(n) => lines += buffer[..n].iter().filter(|&&byte| byte == b'\n').count(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return lines,
        }
    }
}
