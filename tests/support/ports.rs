//! Ports for servers that are told theirs before they listen.

use std::net::TcpListener;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that the kernel lends to whoever connects (32768 and above, where nobody has set it otherwise): one of those may be
/// lent in the second or two that a server takes until it listens.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// A port of 127.0.0.1 at which nobody listens, and that no other test of this process is given. Processes begin at places of their own.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let begin = process::id().wrapping_mul(977) % COUNT;
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        assert!(given < COUNT, "there is no free port");
        let port = u16::try_from(FIRST + (begin + given) % COUNT).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
