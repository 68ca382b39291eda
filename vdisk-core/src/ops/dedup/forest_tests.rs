//! Trees as they are numbered, and what is no tree.
#![allow(clippy::unwrap_used)]

use super::*;

fn node(parent: Option<usize>, image: bool) -> Node {
    Node {
        size: 8192,
        image,
        parent,
    }
}

#[test]
fn all_images_over_a_node_have_consecutive_numbers() {
    // Parents may come after their children.
    let nodes = [
        node(Some(3), true),
        node(None, true),
        node(Some(3), false),
        node(None, true),
        node(Some(2), true),
        node(Some(2), true),
    ];
    let forest = Forest::new(&nodes).unwrap();
    for over in 0..nodes.len() {
        let lies_over = |mut at: usize| loop {
            if at == over {
                return true;
            }
            match nodes[at].parent {
                Some(parent) => at = parent,
                None => return false,
            }
        };
        let expected: Vec<u32> = (0..6u32)
            .filter(|&n| nodes[n as usize].image && lies_over(n as usize))
            .collect();
        let mut found = forest.images()[forest.images_over(over)].to_vec();
        found.sort_unstable();
        assert_eq!(found, expected, "over {over}");
        assert_eq!(forest.at(forest.rank(over)).0, over);
    }
    assert_eq!(forest.height(), 3);
    assert!(forest.alone(1) && !forest.alone(3) && !forest.alone(4));
    let spans = forest.spans();
    assert_eq!(spans.len(), 6 + 5);
    assert_eq!(forest.single(2), None);
    let single = spans[forest.single(3).unwrap() as usize].clone();
    assert_eq!(single.len(), 1);
    assert_eq!(forest.images()[single.start as usize], 3);
}

#[test]
fn what_is_no_tree_is_refused() {
    let refused = |nodes: &[Node], why: &str| {
        let error = Forest::new(nodes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(why), "{error}");
    };
    refused(&[node(Some(1), true)], "segment 0 lies over number 1");
    refused(&[node(Some(0), true)], "circle");
    refused(
        &[node(None, true), node(Some(2), true), node(Some(1), true)],
        "circle",
    );
    let sized = |size, parent| Node {
        size,
        image: true,
        parent,
    };
    refused(&[sized(8192, None), sized(4096, Some(0))], "does not fit");
    refused(&[sized(u64::MAX, None)], "segment 0 has a disk of");
    assert!(Forest::new(&[sized(4608, None), sized(4608, Some(0))]).is_ok());
    assert!(Forest::new(&[sized(4096, None), sized(4608, Some(0))]).is_ok());
    let tower = |height: usize| -> Vec<Node> {
        (0..height).map(|n| node(n.checked_sub(1), true)).collect()
    };
    refused(&tower(limits::CHAIN_DEPTH + 1), "lies over more than");
    assert!(Forest::new(&tower(limits::CHAIN_DEPTH)).is_ok());
    assert!(Forest::new(&[]).is_ok());
}
