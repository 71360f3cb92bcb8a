//! A database named by a URL alone: what an address in a configuration would say of it.

use super::TrialError;
use crate::config::address::DatabaseAddress;
use crate::config::password_file::PasswordLine;
use crate::config::reference::{Reference, ReferenceError};
use crate::error::Error;
use crate::postgres::Server;
use crate::units::Bytes;

/// The variable libpq reads a password from.
const PGPASSWORD: &str = "PGPASSWORD";

/// The address `url` stands for, with the password where libpq would find it unless `password` says where: in PGPASSWORD, then
/// in the password file.
///
/// # Errors
/// When the URL cannot be used, or the password is named and is not there.
pub(super) fn address(
    name: &str,
    url: &str,
    password: Option<Reference>,
    rate: Option<Bytes>,
) -> Result<DatabaseAddress, Error> {
    let mut address = DatabaseAddress {
        name: name.to_owned(),
        url: url.to_owned(),
        password: None,
        application_roles: Vec::new(),
        sequence_gap: 0,
        programs: None,
        rate,
    };
    let server = Server::new(&address, None)?;
    address.password = match password {
        Some(given) => Some(given),
        None if std::env::var_os(PGPASSWORD).is_some() => Some(Reference::Env(PGPASSWORD.to_owned())),
        None => of_password_file(&server).map_err(TrialError::Password)?,
    };
    Ok(address)
}

fn of_password_file(server: &Server) -> Result<Option<Reference>, ReferenceError> {
    let Some(file) = PasswordLine::file_of_libpq() else { return Ok(None) };
    let user = server.user().map(str::to_owned).or_else(|| std::env::var("USER").ok()).unwrap_or_default();
    // Of several hosts the first that has a line: they are one cluster, with the same roles.
    for (host, port) in server.hosts().filter_map(|host| host.rsplit_once(':')) {
        let (file, host, port) = (file.clone(), host.to_owned(), port.to_owned());
        let line = PasswordLine { file, host, port, database: server.database().to_owned(), user: user.clone() };
        if line.find()?.is_some() {
            return Ok(Some(Reference::PasswordFile(line)));
        }
    }
    Ok(None)
}

/// The server behind an address.
///
/// # Errors
/// When its password is not there, or the URL cannot be used.
pub(super) fn server(address: &DatabaseAddress) -> Result<Server, Error> {
    let password = address.password.as_ref().map(Reference::resolve).transpose().map_err(TrialError::Password)?;
    Ok(Server::new(address, password)?)
}
