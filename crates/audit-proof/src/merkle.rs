//! The Merkle tree over chain heads: RFC 6962's shape, BLAKE3.

/// Hash of a leaf's bytes.
pub(crate) fn leaf(bytes: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(&[0]).update(bytes).finalize().as_bytes()
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    *blake3::Hasher::new().update(&[1]).update(left).update(right).finalize().as_bytes()
}

/// The root over hashes of leaves; of none: BLAKE3 of nothing.
///
/// Level by level, an odd one out moving up as it is, which gives the same tree as the RFC's split at the largest power
/// of two.
pub fn root(mut level: Vec<[u8; 32]>) -> [u8; 32] {
    while level.len() > 1 {
        level = level
            .chunks(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(node(left, right)),
                [odd] => Some(*odd),
                _ => None,
            })
            .collect();
    }
    level.first().copied().unwrap_or_else(|| *blake3::hash(b"").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the RFC defines it.
    fn by_definition(leaves: &[[u8; 32]]) -> [u8; 32] {
        match leaves {
            [] => *blake3::hash(b"").as_bytes(),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
                node(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn the_tree_has_the_shape_of_the_rfc_and_every_leaf_counts() {
        for size in 0..70_u8 {
            let mut leaves: Vec<_> = (0..size).map(|n| leaf(&[n])).collect();
            let whole = root(leaves.clone());
            assert_eq!(whole, by_definition(&leaves), "{size}");
            if let Some(last) = leaves.last_mut() {
                *last = leaf(b"other");
                assert_ne!(root(leaves), whole);
            }
        }
    }
}
