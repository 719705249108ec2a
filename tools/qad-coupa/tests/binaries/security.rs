//! The binaries seen by somebody who wants to break in, read secrets, or change them while work is under way.

mod canary;
mod door;
mod rotation;
mod world;
