//! Patterns in SQLite.

use rusqlite::{Row, Transaction, params};
use smartlog_schema::pattern::{KnownShape, PatternChanges};

/// Writes what became of them.
pub(super) fn write_patterns(
    transaction: &Transaction<'_>,
    changes: &PatternChanges,
) -> rusqlite::Result<()> {
    forget(transaction, &changes.forgotten)?;
    let mut keep = transaction.prepare_cached(
        "INSERT INTO patterns (shape, template_id, template, example) VALUES (?1, ?2, ?3, coalesce(?4, ''))
         ON CONFLICT (shape) DO UPDATE SET template_id = excluded.template_id, template = excluded.template,
                example = coalesce(?4, example)",
    )?;
    for row in &changes.shapes {
        keep.execute(params![row.shape, row.template_id, row.template, row.example])?;
    }
    let mut add = transaction.prepare_cached(
        "INSERT INTO pattern_counts (shape, service, first_seen, last_seen, log_count, error_count)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (shape, service) DO UPDATE SET first_seen = min(first_seen, excluded.first_seen),
                last_seen = max(last_seen, excluded.last_seen), log_count = log_count + excluded.log_count,
                error_count = error_count + excluded.error_count",
    )?;
    for row in &changes.counts {
        let service = row.service.as_str();
        add.execute(params![row.shape, service, row.first_us, row.last_us, row.logs, row.errors])?;
    }
    Ok(())
}

/// The counts of what is forgotten go to others.
fn forget(transaction: &Transaction<'_>, forgotten: &[(i64, i64)]) -> rusqlite::Result<()> {
    let mut inherit = transaction.prepare_cached(
        "INSERT INTO pattern_counts (shape, service, first_seen, last_seen, log_count, error_count)
         SELECT ?2, service, first_seen, last_seen, log_count, error_count FROM pattern_counts WHERE shape = ?1
         ON CONFLICT (shape, service) DO UPDATE SET first_seen = min(first_seen, excluded.first_seen),
                last_seen = max(last_seen, excluded.last_seen), log_count = log_count + excluded.log_count,
                error_count = error_count + excluded.error_count",
    )?;
    let mut drop_counts = transaction.prepare_cached("DELETE FROM pattern_counts WHERE shape = ?1")?;
    let mut drop_shape = transaction.prepare_cached("DELETE FROM patterns WHERE shape = ?1")?;
    for (shape, into) in forgotten {
        inherit.execute([shape, into])?;
        drop_counts.execute([shape])?;
        drop_shape.execute([shape])?;
    }
    Ok(())
}

/// Every shape that is remembered.
pub(super) fn read_shapes(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<KnownShape>> {
    let mut statement = transaction.prepare(
        "SELECT p.shape, p.template_id, p.template, p.example, coalesce(max(c.last_seen), 0),
                json_group_array(json_array(c.service, c.first_seen) ORDER BY c.service) FILTER (WHERE c.service IS NOT NULL)
         FROM patterns AS p LEFT JOIN pattern_counts AS c ON c.shape = p.shape GROUP BY p.shape ORDER BY p.shape",
    )?;
    let read = |row: &Row<'_>| {
        let services: Vec<(String, i64)> =
            serde_json::from_str(row.get_ref(5)?.as_str()?).unwrap_or_default();
        Ok(KnownShape {
            shape: row.get(0)?,
            template_id: row.get(1)?,
            template: row.get(2)?,
            example: row.get(3)?,
            last_us: row.get(4)?,
            services: services.into_iter().map(|(name, first_us)| (name.into(), first_us)).collect(),
        })
    };
    statement.query_map([], read)?.collect()
}
