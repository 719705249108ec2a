//! The shortest list of faults that still breaks it: delta debugging.

/// Leaves out whatever can be left out while `breaks` still says that it breaks. One minimal list, not the only one.
/// It takes at most `runs_max` runs.
pub fn shortest<F: Clone>(faults: &[F], runs_max: u32, mut breaks: impl FnMut(&[F]) -> bool) -> Vec<F> {
    let mut left = faults.to_vec();
    let mut piece = left.len().div_ceil(2).max(1);
    let mut runs = 0;
    while !left.is_empty() {
        let mut smaller = None;
        for start in (0..left.len()).step_by(piece) {
            runs += 1;
            if runs > runs_max {
                return left;
            }
            let end = (start + piece).min(left.len());
            let without: Vec<F> = [&left[..start], &left[end..]].concat();
            if breaks(&without) {
                smaller = Some(without);
                break;
            }
        }
        match smaller {
            Some(without) => left = without,
            None if piece == 1 => return left,
            None => {}
        }
        piece = piece.div_ceil(2).min(left.len().max(1));
    }
    left
}
