//! Trees compiled for speed. The sum of a row's path lengths over all trees is all that scoring needs.
//!
//! ```text
//! axis-parallel: 8 rows of a block ─┐ lock step, depth of the tree      ┌─► sums[row] += path length
//!  (or 8 trees of one row)          └─► child = left + (key < row key) ─┘
//! ```
//!
//! A leaf is its own left child and nothing is above its key, so a walk needs no test for the end: all lanes
//! take as many steps as the tree is deep, without a branch that could be mispredicted. Blocks of rows are
//! walked tree by tree, so that a tree stays in the first-level cache. Sums are taken in the order of the
//! trees both ways, so a row's score is the same to the last bit alone or in a batch.

use crate::number::order_key;
use crate::tree::{AxisSplit, PlaneSplit, Split, Tree, dot};

/// Rows, or trees, that are walked in lock step: as many as the processor's registers hold.
const LANES: usize = 8;

/// What can sum up path lengths.
pub(crate) trait PathSums: Sync {
    /// A feature's value as the trees compare it.
    type Cell: Copy + Default + Send;

    /// The value in that form.
    fn cell(value: f32) -> Self::Cell;

    /// Adds each row's path lengths over all trees to its sum. `rows` holds `sums.len()` rows of `width` cells.
    fn add_block(&self, rows: &[Self::Cell], width: usize, sums: &mut [f64]);

    /// One row's path lengths over all trees.
    fn row_sum(&self, cell: impl Fn(usize) -> Self::Cell) -> f64;

    /// [`Tree::path_lengths`] of one tree.
    fn path_lengths(&self, tree: usize) -> &[f64];
}

/// An unsigned integer just wide enough for a tree's nodes and features.
pub(crate) trait Slot: Copy + Sync {
    /// `None` when the number is too large.
    fn pack(number: usize) -> Option<Self>;

    fn unpack(self) -> usize;
}

impl Slot for u16 {
    fn pack(number: usize) -> Option<Self> {
        number.try_into().ok()
    }

    fn unpack(self) -> usize {
        usize::from(self)
    }
}

impl Slot for u32 {
    fn pack(number: usize) -> Option<Self> {
        number.try_into().ok()
    }

    fn unpack(self) -> usize {
        self as usize
    }
}

/// Eight bytes with `u16`: a tree of 256 rows is at most 4 kB.
#[derive(Clone, Copy)]
struct AxisNode<I> {
    /// [`order_key`] of the threshold.
    key: u32,
    feature: I,
    left: I,
}

/// Where a tree lies in its arena.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    depth: u32,
}

impl Span {
    fn new<S: Split>(start: usize, tree: &Tree<S>) -> Self {
        let depth = tree.depths().into_iter().max().unwrap_or(0);
        Self { start, end: start + tree.nodes.len(), depth }
    }
}

/// Axis-parallel trees.
#[derive(Clone)]
pub(crate) struct AxisArena<I> {
    nodes: Vec<AxisNode<I>>,
    /// [`Tree::path_lengths`] of all trees.
    paths: Vec<f64>,
    spans: Vec<Span>,
}

impl<I: Slot> AxisArena<I> {
    /// `None` when a tree has more nodes, or features, than `I` can count.
    pub(crate) fn compile(trees: &[Tree<AxisSplit>]) -> Option<Self> {
        let mut arena = Self { nodes: Vec::new(), paths: Vec::new(), spans: Vec::with_capacity(trees.len()) };
        for tree in trees {
            let start = arena.nodes.len();
            for (index, node) in tree.nodes.iter().enumerate() {
                arena.nodes.push(match &node.inner {
                    Some(inner) => AxisNode {
                        key: order_key(inner.split.threshold),
                        feature: I::pack(inner.split.feature as usize)?,
                        left: I::pack(inner.left as usize)?,
                    },
                    None => AxisNode { key: u32::MAX, feature: I::pack(0)?, left: I::pack(index)? },
                });
            }
            arena.paths.extend(tree.path_lengths());
            arena.spans.push(Span::new(start, tree));
        }
        Some(arena)
    }

    /// Path lengths of `L` rows in one tree.
    fn walk_rows<const L: usize>(&self, span: Span, rows: &[u32], width: usize, sums: &mut [f64]) {
        let nodes = &self.nodes[span.start..span.end];
        let paths = &self.paths[span.start..span.end];
        for (rows, sums) in rows.chunks_exact(L * width).zip(sums.chunks_exact_mut(L)) {
            let mut at = [0_usize; L];
            for _ in 0..span.depth {
                for lane in 0..L {
                    let node = &nodes[at[lane]];
                    let value = rows[lane * width + node.feature.unpack()];
                    at[lane] = node.left.unpack() + usize::from(node.key < value);
                }
            }
            for lane in 0..L {
                sums[lane] += paths[at[lane]];
            }
        }
    }

    /// Path lengths of one row in `L` trees, added up in their order.
    fn walk_trees<const L: usize>(&self, spans: &[Span; L], cell: &impl Fn(usize) -> u32, sum: &mut f64) {
        let nodes: [&[AxisNode<I>]; L] = spans.map(|span| &self.nodes[span.start..span.end]);
        let depth = spans.iter().map(|span| span.depth).max().unwrap_or(0);
        let mut at = [0_usize; L];
        for _ in 0..depth {
            for lane in 0..L {
                let node = &nodes[lane][at[lane]];
                at[lane] = node.left.unpack() + usize::from(node.key < cell(node.feature.unpack()));
            }
        }
        for lane in 0..L {
            *sum += self.paths[spans[lane].start + at[lane]];
        }
    }
}

impl<I: Slot> PathSums for AxisArena<I> {
    type Cell = u32;

    #[inline]
    fn cell(value: f32) -> u32 {
        order_key(value)
    }

    fn add_block(&self, rows: &[u32], width: usize, sums: &mut [f64]) {
        let whole = sums.len() / LANES * LANES;
        let (rows, rest) = rows.split_at(whole * width);
        let (sums, rest_sums) = sums.split_at_mut(whole);
        for &span in &self.spans {
            self.walk_rows::<LANES>(span, rows, width, sums);
            self.walk_rows::<1>(span, rest, width, rest_sums);
        }
    }

    fn row_sum(&self, cell: impl Fn(usize) -> u32) -> f64 {
        let mut sum = 0.0;
        let (groups, rest) = self.spans.as_chunks::<LANES>();
        for spans in groups {
            self.walk_trees(spans, &cell, &mut sum);
        }
        for &span in rest {
            self.walk_trees(&[span], &cell, &mut sum);
        }
        sum
    }

    fn path_lengths(&self, tree: usize) -> &[f64] {
        let span = self.spans[tree];
        &self.paths[span.start..span.end]
    }
}

/// A node of an extended tree: right when `Σ weight · x > intercept`, which no sum is at a leaf.
#[derive(Clone, Copy)]
struct PlaneNode {
    intercept: f64,
    left: u32,
    /// First weight and number of weights.
    weights: (u32, u32),
}

/// Extended trees.
#[derive(Clone)]
pub(crate) struct PlaneArena {
    nodes: Vec<PlaneNode>,
    paths: Vec<f64>,
    spans: Vec<Span>,
    /// (feature, weight) of all planes, after as many zeros as the largest plane has weights: leaves weigh with
    /// those, so that all steps take the same instructions.
    weights: Vec<(u32, f32)>,
}

impl PlaneArena {
    /// `None` when there are more weights than 32 bits can count.
    pub(crate) fn compile(trees: &[Tree<PlaneSplit>]) -> Option<Self> {
        let planes = || trees.iter().flat_map(|tree| tree.inner_nodes().map(|(_, inner)| &inner.split));
        let largest = planes().map(|plane| plane.features.len()).max().unwrap_or(0);
        let zeros = u32::try_from(largest).ok()?;
        let mut arena = Self {
            nodes: Vec::new(),
            paths: Vec::new(),
            spans: Vec::with_capacity(trees.len()),
            weights: vec![(0, 0.0); largest],
        };
        for tree in trees {
            let start = arena.nodes.len();
            for (index, node) in tree.nodes.iter().enumerate() {
                let first = u32::try_from(arena.weights.len()).ok()?;
                arena.nodes.push(match &node.inner {
                    Some(inner) => {
                        let plane = &inner.split;
                        arena
                            .weights
                            .extend(plane.features.iter().copied().zip(plane.normal.iter().copied()));
                        let weights = (first, plane.features.len() as u32);
                        PlaneNode { intercept: plane.intercept(), left: inner.left, weights }
                    }
                    None => PlaneNode { intercept: f64::INFINITY, left: index as u32, weights: (0, zeros) },
                });
            }
            arena.paths.extend(tree.path_lengths());
            arena.spans.push(Span::new(start, tree));
        }
        Some(arena)
    }

    fn child(&self, node: &PlaneNode, cell: impl Fn(usize) -> f32) -> usize {
        let (first, count) = (node.weights.0 as usize, node.weights.1 as usize);
        let weights = &self.weights[first..first + count];
        let projection = dot(weights.iter().map(|&(feature, weight)| (weight, cell(feature as usize))));
        node.left as usize + usize::from(projection > node.intercept)
    }

    /// Path lengths of `L` rows in one tree.
    fn walk_rows<const L: usize>(&self, span: Span, rows: &[f32], width: usize, sums: &mut [f64]) {
        let nodes = &self.nodes[span.start..span.end];
        for (rows, sums) in rows.chunks_exact(L * width).zip(sums.chunks_exact_mut(L)) {
            let mut at = [0_usize; L];
            for _ in 0..span.depth {
                for lane in 0..L {
                    at[lane] = self.child(&nodes[at[lane]], |feature| rows[lane * width + feature]);
                }
            }
            for lane in 0..L {
                sums[lane] += self.paths[span.start + at[lane]];
            }
        }
    }

    /// Path lengths of one row in `L` trees, added up in their order.
    fn walk_trees<const L: usize>(&self, spans: &[Span; L], cell: &impl Fn(usize) -> f32, sum: &mut f64) {
        let nodes: [&[PlaneNode]; L] = spans.map(|span| &self.nodes[span.start..span.end]);
        let depth = spans.iter().map(|span| span.depth).max().unwrap_or(0);
        let mut at = [0_usize; L];
        for _ in 0..depth {
            for lane in 0..L {
                at[lane] = self.child(&nodes[lane][at[lane]], cell);
            }
        }
        for lane in 0..L {
            *sum += self.paths[spans[lane].start + at[lane]];
        }
    }
}

impl PathSums for PlaneArena {
    type Cell = f32;

    #[inline]
    fn cell(value: f32) -> f32 {
        value
    }

    fn add_block(&self, rows: &[f32], width: usize, sums: &mut [f64]) {
        let whole = sums.len() / LANES * LANES;
        let (rows, rest) = rows.split_at(whole * width);
        let (sums, rest_sums) = sums.split_at_mut(whole);
        for &span in &self.spans {
            self.walk_rows::<LANES>(span, rows, width, sums);
            self.walk_rows::<1>(span, rest, width, rest_sums);
        }
    }

    fn row_sum(&self, cell: impl Fn(usize) -> f32) -> f64 {
        let mut sum = 0.0;
        let (groups, rest) = self.spans.as_chunks::<LANES>();
        for spans in groups {
            self.walk_trees(spans, &cell, &mut sum);
        }
        for &span in rest {
            self.walk_trees(&[span], &cell, &mut sum);
        }
        sum
    }

    fn path_lengths(&self, tree: usize) -> &[f64] {
        let span = self.spans[tree];
        &self.paths[span.start..span.end]
    }
}
