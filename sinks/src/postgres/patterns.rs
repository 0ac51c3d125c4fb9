//! Patterns in PostgreSQL.

use super::types::Micros;
use smartlog_schema::pattern::{KnownShape, PatternChanges};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

/// Prepared once a session.
pub(super) struct Statements {
    inherit: Statement,
    drop_counts: Statement,
    drop_shapes: Statement,
    keep_shapes: Statement,
    add_counts: Statement,
}

impl Statements {
    pub async fn prepare(client: &Client) -> Result<Self, Error> {
        let (inherit, drop_counts, drop_shapes, keep_shapes, add_counts) = tokio::try_join!(
            client.prepare(INHERIT),
            client.prepare(DROP_COUNTS),
            client.prepare(DROP_SHAPES),
            client.prepare(KEEP_SHAPES),
            client.prepare(ADD_COUNTS),
        )?;
        Ok(Statements { inherit, drop_counts, drop_shapes, keep_shapes, add_counts })
    }
}

/// The counts of what is forgotten go to others.
const INHERIT: &str = "INSERT INTO pattern_counts AS p (shape, service, first_seen, last_seen, log_count, error_count)
                     SELECT f.heir, c.service, min(c.first_seen), max(c.last_seen), sum(c.log_count), sum(c.error_count)
                     FROM unnest($1::bigint[], $2::bigint[]) AS f (shape, heir)
                     JOIN pattern_counts AS c ON c.shape = f.shape GROUP BY f.heir, c.service
                     ON CONFLICT (shape, service) DO UPDATE SET first_seen = least(p.first_seen, excluded.first_seen),
                            last_seen = greatest(p.last_seen, excluded.last_seen),
                            log_count = p.log_count + excluded.log_count,
                            error_count = p.error_count + excluded.error_count";

const DROP_COUNTS: &str = "DELETE FROM pattern_counts WHERE shape = ANY ($1::bigint[])";

const DROP_SHAPES: &str = "DELETE FROM patterns WHERE shape = ANY ($1::bigint[])";

const KEEP_SHAPES: &str = "INSERT INTO patterns AS p (shape, template_id, template, example)
                     SELECT s.shape, s.template_id, s.template, coalesce(s.example, '')
                     FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])
                          AS s (shape, template_id, template, example)
                     ON CONFLICT (shape) DO UPDATE SET template_id = excluded.template_id,
                            template = excluded.template,
                            example = CASE WHEN excluded.example = '' THEN p.example ELSE excluded.example END";

const ADD_COUNTS: &str =
    "INSERT INTO pattern_counts AS p (shape, service, first_seen, last_seen, log_count, error_count)
                     SELECT * FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::timestamptz[],
                                          $5::bigint[], $6::bigint[])
                     ON CONFLICT (shape, service) DO UPDATE SET first_seen = least(p.first_seen, excluded.first_seen),
                            last_seen = greatest(p.last_seen, excluded.last_seen),
                            log_count = p.log_count + excluded.log_count,
                            error_count = p.error_count + excluded.error_count";

/// The columns of what became of the patterns.
#[derive(Default)]
pub(super) struct PatternColumns<'a> {
    forgotten: Vec<i64>,
    heirs: Vec<i64>,
    shapes: Vec<i64>,
    template_ids: Vec<i64>,
    templates: Vec<&'a str>,
    examples: Vec<Option<&'a str>>,
    counted: Vec<i64>,
    services: Vec<&'a str>,
    first: Vec<Micros>,
    last: Vec<Micros>,
    logs: Vec<i64>,
    errors: Vec<i64>,
}

impl<'a> PatternColumns<'a> {
    pub fn of(changes: &'a PatternChanges) -> Self {
        let mut columns = PatternColumns::default();
        (columns.forgotten, columns.heirs) = changes.forgotten.iter().copied().unzip();
        for row in &changes.shapes {
            columns.shapes.push(row.shape);
            columns.template_ids.push(row.template_id);
            columns.templates.push(&row.template);
            columns.examples.push(row.example.as_deref());
        }
        for row in &changes.counts {
            columns.counted.push(row.shape);
            columns.services.push(&row.service);
            columns.first.push(Micros(row.first_us));
            columns.last.push(Micros(row.last_us));
            columns.logs.push(row.logs);
            columns.errors.push(row.errors);
        }
        columns
    }

    /// What is to be executed, in this order.
    pub fn writes<'s>(
        &'s self,
        statements: &'s Statements,
    ) -> Vec<(&'s Statement, Vec<&'s (dyn ToSql + Sync)>)> {
        let mut writes: Vec<(&Statement, Vec<&(dyn ToSql + Sync)>)> = Vec::new();
        if !self.forgotten.is_empty() {
            writes.push((&statements.inherit, vec![&self.forgotten, &self.heirs]));
            writes.push((&statements.drop_counts, vec![&self.forgotten]));
            writes.push((&statements.drop_shapes, vec![&self.forgotten]));
        }
        if !self.shapes.is_empty() {
            let values: Vec<&(dyn ToSql + Sync)> =
                vec![&self.shapes, &self.template_ids, &self.templates, &self.examples];
            writes.push((&statements.keep_shapes, values));
        }
        if !self.counted.is_empty() {
            let values: Vec<&(dyn ToSql + Sync)> =
                vec![&self.counted, &self.services, &self.first, &self.last, &self.logs, &self.errors];
            writes.push((&statements.add_counts, values));
        }
        writes
    }
}

/// Every shape that is remembered.
pub(super) async fn read_shapes(client: &Client) -> Result<Vec<KnownShape>, Error> {
    let sql = "SELECT p.shape, p.template_id, p.template, p.example, max(c.last_seen),
                      coalesce(array_agg(c.service ORDER BY c.service COLLATE \"C\") FILTER (WHERE c.service IS NOT NULL), '{}'),
                      coalesce(array_agg(c.first_seen ORDER BY c.service COLLATE \"C\") FILTER (WHERE c.service IS NOT NULL), '{}')
               FROM patterns AS p LEFT JOIN pattern_counts AS c ON c.shape = p.shape GROUP BY p.shape ORDER BY p.shape";
    let read = |row: &Row| {
        let (services, first): (Vec<&str>, Vec<Micros>) = (row.get(5), row.get(6));
        KnownShape {
            shape: row.get(0),
            template_id: row.get(1),
            template: row.get(2),
            example: row.get(3),
            last_us: row.get::<_, Option<Micros>>(4).map_or(0, |at| at.0),
            services: services.into_iter().map(Into::into).zip(first.into_iter().map(|at| at.0)).collect(),
        }
    };
    Ok(client.query(sql, &[]).await?.iter().map(read).collect())
}
