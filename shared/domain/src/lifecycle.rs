//! The state machine of a write to another system.
