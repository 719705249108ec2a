//! What the system does, in the order an invoice meets it. One file per flow: why it exists, `struct Deps` (which is
//! the list of its permissions), `run`. No AWS and no HTTP in here: those are ports.

pub mod ports;
