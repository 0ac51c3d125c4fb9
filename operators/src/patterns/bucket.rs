//! The templates of one skeleton, and how a shape finds its own.

use super::cells::Cell;
use super::group::{self, RowHash};
use super::shape::Token;
use super::stats::Stats;
use super::template::{Template, id_of, render};
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use serde::{Deserialize, Serialize};

/// Shapes of a template that keep cells of their own. With more, the template's cells stand for all of them: what it has
/// learnt stays, and the cost of grouping is bounded by templates instead of shapes.
const MAX_SHAPES_IN_FULL: usize = 64;

/// A shape as it was read, for grouping and for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sketch {
    pub text: Box<str>,
    pub tokens: Box<[Token]>,
    pub cells: Box<[Cell]>,
}

/// Where sketches are found by their shape's hash.
pub(super) trait Sketches {
    fn sketch(&self, shape: u64) -> Option<&Sketch>;
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Bucket {
    pub templates: Vec<Template>,
    /// Shapes that came since the templates were made.
    pub fresh: Vec<u64>,
    #[serde(skip)]
    index: Index,
}

/// One row of what is grouped: a shape, or a template that stands for its shapes.
struct Piece {
    cells: Vec<Cell>,
    shapes: Vec<u64>,
    forgotten: Stats,
    condensed: bool,
}

impl Bucket {
    /// Groups the templates and the fresh shapes anew. Which shapes no longer need a sketch is left in `given_up`.
    pub fn regroup(&mut self, sketches: &impl Sketches, given_up: &mut Vec<u64>) {
        let mut pieces = self.pieces(sketches);
        pieces.sort_by_key(|piece| piece.shapes.first().copied());
        let rows: Vec<Vec<Cell>> = pieces.iter_mut().map(|piece| std::mem::take(&mut piece.cells)).collect();
        let groups = group::group(&rows);
        self.templates = groups.into_iter().map(|group| join(group, &pieces, sketches)).collect();
        // Merged miners may know a shape from both sides.
        let mut known = HashSet::new();
        for template in &mut self.templates {
            template.shapes.retain(|&shape| known.insert(shape));
            condense(template, sketches, given_up);
        }
        self.templates.sort_by_key(|template| template.id);
        self.index = Index::of(&self.templates);
    }

    fn pieces(&mut self, sketches: &impl Sketches) -> Vec<Piece> {
        let of_shape = |&shape: &u64| {
            let cells = sketches.sketch(shape)?.cells.to_vec();
            Some(Piece { cells, shapes: vec![shape], forgotten: Stats::default(), condensed: false })
        };
        let mut pieces: Vec<Piece> = self.fresh.iter().filter_map(of_shape).collect();
        self.fresh.clear();
        for template in std::mem::take(&mut self.templates) {
            let Template { cells, shapes, mut forgotten, condensed, .. } = template;
            if condensed {
                pieces.push(Piece { cells, shapes, forgotten, condensed });
                continue;
            }
            // What was forgotten goes with the first shape that is left.
            pieces.extend(
                shapes
                    .iter()
                    .filter_map(of_shape)
                    .map(|piece| Piece { forgotten: std::mem::take(&mut forgotten), ..piece }),
            );
        }
        pieces
    }

    /// The template that covers a row of cells, looked for without knowing its shape.
    pub fn find(&self, cells: &[Cell], is_state: impl Fn(usize) -> bool) -> Option<&Template> {
        self.index.find(cells, is_state).map(|place| &self.templates[place])
    }

    /// Makes the index after the templates were read from where they are stored.
    pub fn reindex(&mut self) {
        self.index = Index::of(&self.templates);
    }
}

fn join(group: group::Group, pieces: &[Piece], sketches: &impl Sketches) -> Template {
    let members = || group.rows.iter().map(|&row| &pieces[row]);
    let mut shapes: Vec<u64> = members().flat_map(|piece| piece.shapes.iter().copied()).collect();
    let mut forgotten = Stats::default();
    members().for_each(|piece| forgotten.add(&piece.forgotten));
    shapes.sort_unstable();
    let condensed = members().any(|piece| piece.condensed);
    let with_sketch = shapes.iter().find_map(|&shape| sketches.sketch(shape));
    let text =
        with_sketch.map(|sketch| render(&sketch.text, &sketch.tokens, &group.cells)).unwrap_or_default();
    let id = id_of(&group.cells);
    Template { id, cells: group.cells, text, shapes, forgotten, condensed, counts_for: id }
}

/// Gives up the sketches of a template's many shapes, but one that its text is made of.
fn condense(template: &mut Template, sketches: &impl Sketches, given_up: &mut Vec<u64>) {
    template.condensed |= template.shapes.len() > MAX_SHAPES_IN_FULL;
    if template.condensed {
        let mut with_sketch = template.shapes.iter().filter(|&&shape| sketches.sketch(shape).is_some());
        with_sketch.next();
        given_up.extend(with_sketch);
    }
}

/// Tuple-space search (Srinivasan et al., SIGCOMM 1999): templates with their values in the same columns share a table.
#[derive(Debug, Clone, Default)]
struct Index(Vec<Table>);

#[derive(Debug, Clone)]
struct Table {
    /// The columns of the values.
    stars: Vec<usize>,
    place_of: HashMap<u64, usize>,
}

impl Index {
    fn of(templates: &[Template]) -> Self {
        let mut tables: HashMap<Vec<usize>, HashMap<u64, usize>> = HashMap::new();
        for (place, template) in templates.iter().enumerate() {
            let stars = (0..template.cells.len()).filter(|&at| template.cells[at].class.is_star()).collect();
            tables.entry(stars).or_default().insert(RowHash::of(&template.cells).value(), place);
        }
        let mut tables: Vec<Table> =
            tables.into_iter().map(|(stars, place_of)| Table { stars, place_of }).collect();
        // The fewest values first: what fits most closely.
        tables.sort_by(|a, b| (a.stars.len(), &a.stars).cmp(&(b.stars.len(), &b.stars)));
        Index(tables)
    }

    fn find(&self, cells: &[Cell], is_state: impl Fn(usize) -> bool) -> Option<usize> {
        let hash = RowHash::of(cells);
        self.0.iter().find_map(|table| {
            let hash = table.stars.iter().fold(hash, |hash, &at| hash.starred(at, cells[at].word));
            let place = *table.place_of.get(&hash.value())?;
            // A word that says how things stand is no value.
            let is_free = |&at: &usize| cells[at].class.is_star() || !is_state(at);
            table.stars.iter().all(is_free).then_some(place)
        })
    }
}
