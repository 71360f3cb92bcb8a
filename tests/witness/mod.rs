//! The third place, on every store it may lie on, and on stores and networks that misbehave: whoever believes to have won has.

mod commands;
mod doubles;
mod etcd;
mod keys;
mod rows;
