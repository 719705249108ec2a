//! Coupa and QAD as simulators with their real wire and rules and faults on demand, and the local AWS.
