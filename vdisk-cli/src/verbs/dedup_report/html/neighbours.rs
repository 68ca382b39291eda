//! An order of the images in which alike ones are neighbours.
//!
//! Single linkage: pairs are taken from the most alike one, and join the rows that their images are
//! in. So images that share more than any threshold with each other, through others too, lie side
//! by side. Needs no more memory than the pairs.

/// What two images have in common, from 0 to 1.
pub(super) struct Likeness {
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) share: f64,
}

/// The numbers of `images` images in that order; what is like no other keeps its place among such.
pub(super) fn order(images: usize, likenesses: &[Likeness]) -> Vec<usize> {
    let mut rows: Vec<Vec<usize>> = (0..images).map(|i| vec![i]).collect();
    let mut row_of: Vec<usize> = (0..images).collect();
    let mut ranked: Vec<&Likeness> = likenesses.iter().collect();
    ranked.sort_by(|x, y| {
        y.share
            .total_cmp(&x.share)
            .then((x.a, x.b).cmp(&(y.a, y.b)))
    });
    for pair in ranked {
        let (into, from) = (row_of[pair.a], row_of[pair.b]);
        if into == from {
            continue;
        }
        let mut left = std::mem::take(&mut rows[into]);
        let mut right = std::mem::take(&mut rows[from]);
        // The two that are alike come near each other, if turning a row does that.
        if in_first_half(&left, pair.a) {
            left.reverse();
        }
        if !in_first_half(&right, pair.b) {
            right.reverse();
        }
        for image in &right {
            row_of[*image] = into;
        }
        left.append(&mut right);
        rows[into] = left;
    }
    // As reported, by the first image of each row.
    rows.retain(|row| !row.is_empty());
    rows.sort_by_key(|row| row.iter().min().copied());
    rows.concat()
}

fn in_first_half(row: &[usize], image: usize) -> bool {
    let place = row.iter().position(|i| *i == image);
    place.is_some_and(|p| p * 2 + 1 < row.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likeness(a: usize, b: usize, share: f64) -> Likeness {
        Likeness { a, b, share }
    }

    #[test]
    fn families_that_are_mixed_up_lie_together() {
        // Images of three families, dealt in turn; families have a little in common.
        let mut all = Vec::new();
        for a in 0..30 {
            for b in a + 1..30 {
                let share = if a % 3 == b % 3 { 0.9 } else { 0.2 };
                all.push(likeness(a, b, share));
            }
        }
        let order = order(30, &all);
        let families: Vec<usize> = order.iter().map(|i| i % 3).collect();
        let changes = families.windows(2).filter(|w| w[0] != w[1]).count();
        assert_eq!(changes, 2, "{families:?}");
        let mut sorted = order;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..30));
    }

    #[test]
    fn what_is_alone_keeps_its_place() {
        assert_eq!(order(4, &[]), [0, 1, 2, 3]);
        assert_eq!(order(0, &[]), [0; 0]);
        let order = order(4, &[likeness(1, 3, 0.5), likeness(0, 1, f64::NAN)]);
        assert_eq!(order.len(), 4);
    }

    #[test]
    fn a_row_is_turned_so_that_alike_ends_meet() {
        let chain = [
            likeness(0, 1, 0.9),
            likeness(2, 3, 0.8),
            likeness(0, 3, 0.5),
        ];
        let order = order(4, &chain);
        let place = |image| order.iter().position(|i| *i == image).unwrap();
        assert_eq!(place(0).abs_diff(place(3)), 1, "{order:?}");
    }
}
