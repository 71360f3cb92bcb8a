//! Words to the service manager (sd_notify(3)): a datagram to the socket it named.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager, if this was started by one that wants to know.
pub struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that all is well, if it does.
    pub watchdog: Option<Duration>,
}

impl Supervisor {
    /// By `NOTIFY_SOCKET` and `WATCHDOG_USEC` of the environment.
    ///
    /// # Errors
    /// When the socket named there is none.
    pub fn of_environment() -> std::io::Result<Self> {
        let socket = match std::env::var("NOTIFY_SOCKET") {
            Ok(name) => Some((UnixDatagram::unbound()?, address(&name)?)),
            Err(_) => None,
        };
        let micros = std::env::var("WATCHDOG_USEC").ok().and_then(|micros| micros.parse().ok());
        // Twice as often, as the manual advises.
        Ok(Supervisor { socket, watchdog: micros.map(|micros: u64| Duration::from_micros(micros) / 2) })
    }

    /// `READY=1`, `WATCHDOG=1`, `STOPPING=1`, `STATUS=…`: one of them, or several on lines of their own.
    pub fn tell(&self, words: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(words.as_bytes(), address)
        {
            tracing::warn!("the service manager cannot be told {words}: {error}");
        }
    }
}

/// A path, or with `@` a name outside the file system.
fn address(name: &str) -> std::io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_hears_what_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        let socket = Some((UnixDatagram::unbound().unwrap(), address(path.to_str().unwrap()).unwrap()));
        let manager = Supervisor { socket, watchdog: None };
        manager.tell("READY=1\nSTATUS=STANDBY term 3");
        let mut words = [0; 64];
        let length = heard.recv(&mut words).unwrap();
        assert_eq!(&words[..length], b"READY=1\nSTATUS=STANDBY term 3");
        assert!(address("@warmspare").unwrap().as_abstract_name().is_some());
    }
}
