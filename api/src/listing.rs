//! One page of a list: the frame that all lists share, and the three statements behind it.
//!
//! ```text
//!   Listing { table, columns, order, … } ──▶ reached, count, rows ──▶ (rows, Frame) ──▶ {"LIST": […], "total", "page", …}
//! ```

use crate::app::App;
use crate::paging::{Order, Page};
use crate::problem::Problem;
use crate::routes::{Call, ClockNow};
use crate::store::{Arg, Row, Sql, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

/// What every page says besides its rows.
#[derive(Debug, Serialize, ToSchema)]
pub struct Frame {
    /// How many rows there are on all pages.
    #[schema(example = 1)]
    pub total: i64,
    /// False: there are more than `total`, and they were not counted.
    #[schema(example = true)]
    pub total_is_exact: bool,
    #[schema(example = 1)]
    pub page: i64,
    #[schema(example = 50)]
    pub per_page: i64,
    /// For the page that follows; null on the last.
    pub next_cursor: Option<String>,
    #[serde(flatten)]
    pub reached: ClockNow,
}

/// How the rows of all pages are counted.
#[derive(Debug, Clone, Copy)]
pub enum Count {
    /// Up to this many; that there are more is said.
    UpTo(i64),
    /// All of them. The count is kept for as long as this number, read with the page, stays the same.
    Kept { seq: &'static str },
}

/// A list over one table.
pub struct Listing<T> {
    pub table: &'static str,
    /// What `read` reads.
    pub columns: &'static str,
    pub order: Order,
    pub count: Count,
    /// Clock and watermark, for [`ClockNow::of`].
    pub reached: &'static str,
    /// Appends the filters of the request behind `where true`.
    pub filter: fn(&Call, &mut Sql),
    pub read: fn(&Row) -> Result<T, StoreError>,
    /// Sort key and id of a row.
    pub key: fn(&T) -> (i64, i64),
}

/// The rows of a page, its frame, and the number that [`Count::Kept`] names (0 otherwise).
pub struct Listed<T> {
    pub rows: Vec<T>,
    pub frame: Frame,
    pub seq: i64,
}

impl<T> Listing<T> {
    /// Reads the page that the request asks for.
    pub async fn page(&self, call: &Call) -> Result<Listed<T>, Problem> {
        let app = &*call.app;
        let page = Page::of(&call.params)?;
        let mut select = self.filtered(call, self.columns);
        page.select(&mut select, self.order);
        // What was reached is read before the rows, so that they hold at least that much.
        let reached = app.store.sql(self.reached);
        let counting = match self.count {
            Count::UpTo(limit) => self.counting(call, limit),
            Count::Kept { seq } => app.store.sql(seq),
        };
        let [reached, counted, rows] = app.fetch_all([reached, counting, select]).await?;
        let counted = counted.first().map_or(Ok(0), |row| row.get(0))?;
        let (total, total_is_exact, seq) = match self.count {
            Count::UpTo(limit) => (counted.min(limit), counted <= limit, 0),
            Count::Kept { .. } => (self.kept_total(app, call, counted).await?, true, counted),
        };
        let mut rows = rows.iter().map(self.read).collect::<Result<Vec<_>, _>>()?;
        let next_cursor = page.cut(&mut rows, self.key);
        let reached = ClockNow::of(&reached)?;
        let (page, per_page) = (page.number, page.per_page);
        Ok(Listed { rows, frame: Frame { total, total_is_exact, page, per_page, next_cursor, reached }, seq })
    }

    fn filtered(&self, call: &Call, columns: &str) -> Sql {
        let mut sql = call.app.store.sql(&format!("select {columns} from {} where true", self.table));
        (self.filter)(call, &mut sql);
        sql
    }

    /// Counts one row more than `limit`, so that it shows whether there are more.
    fn counting(&self, call: &Call, limit: i64) -> Sql {
        let mut sql = call
            .app
            .store
            .sql(&format!("select count(*) from (select 1 as one from {} where true", self.table));
        (self.filter)(call, &mut sql);
        sql.push(" limit ").arg(Arg::Int(limit + 1)).push(") as counted");
        sql
    }

    async fn kept_total(&self, app: &App, call: &Call, seq: i64) -> Result<i64, Problem> {
        // With the times that relative ones mean now: a count of the last hour changes without any commit.
        let key = (format!("{}?{}", self.table, call.params.filters()), seq);
        let counted = async {
            let rows = app.fetch(self.filtered(call, "count(*)")).await?;
            rows.first().map_or(Ok(0), |row| row.get(0)).map_err(Problem::from)
        };
        app.totals.get_or_insert_async(&key, counted).await
    }
}
