//! The simulated world that the tests share.
