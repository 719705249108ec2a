//! Any state of an invoice in one plain sentence and a line matrix.
