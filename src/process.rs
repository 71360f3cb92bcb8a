//! What this process leaves behind: of programs it has started nothing ([`Group`]), and in memory nothing that a core dump, a debugger or a
//! freed block would show.
//!
//! Secrets live in types that wipe themselves. Three things those types cannot do are done here: no core is dumped and
//! no other process of the same user may look inside; what libraries free without wiping is wiped by the allocator;
//! and the stack that key arithmetic used is overwritten.

mod group;

pub use group::{Group, end_groups, end_with_groups};

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io;

use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use zeroize::Zeroize;

/// Switches core dumps off and keeps debuggers of the same user out (`prctl(2)`, `PR_SET_DUMPABLE`).
///
/// Children start with a soft limit of 0 too and may raise it again: the hard limit stays as it is, and whether a
/// process may be dumped is decided anew when it starts a program.
///
/// # Errors
/// When the kernel refuses; nothing secret may be touched then.
pub fn keep_memory_private() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let limit = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: limit.maximum })?;
    Ok(())
}

/// Names the process that this one belongs to: a run of a job to its daemon.
pub const PARENT: &str = "WARMSPARE_PARENT";

/// Whether this process is a run of a job, and not a command of a person.
pub fn is_run() -> bool {
    let named = std::env::var(PARENT).ok().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    named.is_some() && named == getppid()
}

/// If this process belongs to another, has the kernel end it when that one dies, however it does (`prctl(2)`,
/// `PR_SET_PDEATHSIG`). What this process starts does not inherit it, though it sees the name.
///
/// # Errors
/// When the kernel refuses.
pub fn end_with_parent() -> io::Result<()> {
    if !is_run() {
        return Ok(());
    }
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have died in between.
    if !is_run() {
        return Err(io::Error::other("the daemon that began this run is gone"));
    }
    Ok(())
}

/// Who asked for what this process does, for a record that others read: the user who called `sudo`, or the user's name or number.
/// Anybody can set it to anything: it informs, and proves nothing.
pub fn operator() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let plain = named.map(|name| name.chars().filter(|c| !c.is_control()).take(64).collect::<String>());
    plain.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("user {}", rustix::process::geteuid().as_raw()))
}

/// The last line of what a program complained, after a colon and safe to print; nothing where it said nothing.
pub fn quoted(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!(": {}", line.trim().escape_debug().take(200).collect::<String>()),
        None => String::new(),
    }
}

/// What arithmetic with keys may have used of the stack below its caller.
const STACK_BYTES: usize = 128 << 10;

/// Overwrites the stack below the caller, where functions that have returned left copies of keys.
#[inline(never)]
pub fn wipe_stack() {
    let mut below = [0u8; STACK_BYTES];
    below.zeroize();
    black_box(&below);
}

/// The system's allocator, which wipes what is given back: the crates for sealing, TLS and servers free buffers that
/// held plain secrets. Costs one `memset` for every block that is freed.
pub struct WipingAllocator;

#[allow(unsafe_code, reason = "an allocator can be written in no other way; everything else in this crate is safe")]
// SAFETY: every call goes to `System` with the arguments it came with, and a block is written to only between its
// allocation and its being given back. `realloc` is the trait's own: a new block, a copy, the old one given back, wiped.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is `layout.size()` bytes long and still the caller's, who promises not to use it again.
        // Without the black box the compiler may leave the writing out, since nobody reads what is freed.
        unsafe {
            block.write_bytes(0, layout.size());
            System.dealloc(black_box(block), layout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_wiped_before_it_is_given_back_and_grows_with_its_content() {
        let layout = Layout::from_size_align(4096, 8).unwrap();
        // SAFETY: allocated here with this layout, written within it, given back once.
        unsafe {
            let block = WipingAllocator.alloc(layout);
            block.write_bytes(7, 4096);
            let grown = WipingAllocator.realloc(block, layout, 8192);
            assert_eq!(std::slice::from_raw_parts(grown, 4096), [7; 4096]);
            WipingAllocator.dealloc(grown, Layout::from_size_align(8192, 8).unwrap());
        }
    }
}
