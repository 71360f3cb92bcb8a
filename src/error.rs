//! What went wrong, told so that `main` can choose an exit code and a person can choose a next step.
//!
//! Every room has its own error type whose variants carry the object they happened to. Each of them says
//! through [`Explain`] which [`Class`] it is of and, where one is known, what to do next. Rooms return
//! their own type; the rooms that compose (`point`, `restore`) and `cli` return [`Error`].
//!
//! A message does not repeat its `source`: [`Error`] prints the whole chain.

use std::fmt;

/// What the caller of a command can do about an error; `main` turns it into the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Tried and failed. Exit code 1.
    Failed,
    /// The command line or the configuration is wrong. Exit code 2.
    Usage,
    /// Not tried, because it would be unsafe. Exit code 3.
    Refused,
    /// The data is stale or incomplete: a proof that is red, a point that is not closed. Exit code 4.
    Incomplete,
    /// The witness cannot be used. Exit code 5.
    Witness,
}

impl Class {
    /// The exit code of design.md §6.
    pub fn exit_code(self) -> u8 {
        match self {
            Class::Failed => 1,
            Class::Usage => 2,
            Class::Refused => 3,
            Class::Incomplete => 4,
            Class::Witness => 5,
        }
    }
}

/// Implemented by the error type of every room.
pub trait Explain: std::error::Error {
    /// What the caller can do about it.
    fn class(&self) -> Class {
        Class::Failed
    }

    /// The next step for the person who reads the message, as a full sentence, if one is known.
    fn next_step(&self) -> Option<String> {
        None
    }
}

/// An error of any room.
#[derive(Debug)]
pub struct Error(Box<dyn Explain + Send + Sync + 'static>);

impl Error {
    /// See [`Explain::class`].
    pub fn class(&self) -> Class {
        self.0.class()
    }

    /// See [`Explain::next_step`].
    pub fn next_step(&self) -> Option<String> {
        self.0.next_step()
    }

    /// The error as one of the type `E`, if it is one.
    pub fn is_a<E: std::error::Error + 'static>(&self) -> Option<&E> {
        let error: &(dyn std::error::Error + 'static) = &*self.0;
        error.downcast_ref()
    }
}

impl<E: Explain + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Error(Box::new(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&*self.0))
    }
}

/// An error and its causes, each after a colon.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
