//! Window rows as a CSV file: `window_end,service,log_count,error_count,avg_message_length,unique_services`.

use compact_str::CompactString;
use smartlog_operators::record::Epoch;
use smartlog_operators::sums::Sums;
use smartlog_operators::window_rows::WindowRow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// The file. Begun anew at every start: the rows of a replay are all in one file, in order.
pub struct WindowsFile(csv::Writer<BufWriter<File>>);

impl WindowsFile {
    /// Creates the file and writes its head.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path)
            .map_err(|error| anyhow::anyhow!("creating {} for the windows: {error}", path.display()))?;
        let mut csv = csv::Writer::from_writer(BufWriter::with_capacity(1 << 18, file));
        csv.write_record([
            "window_end",
            "service",
            "log_count",
            "error_count",
            "avg_message_length",
            "unique_services",
        ])?;
        Ok(WindowsFile(csv))
    }

    /// Writes all rows of the window that ends at `end`, ascending by service.
    fn write(&mut self, end: i64, rows: &[Row]) -> anyhow::Result<()> {
        let end = jiff::Timestamp::from_second(end)?.to_string();
        for (service, sums) in rows {
            let average = sums.avg_message_length().to_string();
            self.0.serialize((&end, service, sums.logs, sums.errors, average, rows.len()))?;
        }
        Ok(())
    }
}

/// A service and the sums of its window.
type Row = (CompactString, Sums);

/// The windows of an epoch, by their end.
#[derive(Default)]
struct Windows(BTreeMap<i64, Vec<Row>>);

impl Windows {
    fn add(&mut self, WindowRow { end, service, sums }: WindowRow) {
        self.0.entry(end).or_default().push((service, sums));
    }

    fn write(self, file: &mut WindowsFile) -> anyhow::Result<()> {
        for (end, mut rows) in self.0 {
            // Each worker gives its own by service: a stable sort makes use of what is in order.
            rows.sort_by(|(a, _), (b, _)| a.cmp(b));
            file.write(end, &rows)?;
        }
        Ok(file.0.flush()?)
    }
}

/// Writes rows from all workers, in order. `file`: on worker 0 only.
pub fn rows_to<'scope>(
    rows: StreamVec<'scope, Epoch, WindowRow>,
    mut file: Option<WindowsFile>,
    fail: impl Fn(anyhow::Error) + 'static,
) {
    let mut builder = OperatorBuilder::new("windows_file".to_owned(), rows.scope());
    let mut rows = builder.new_input(rows, Exchange::new(|_: &WindowRow| 0));
    builder.build(move |_| {
        let mut open: BTreeMap<Epoch, Windows> = BTreeMap::new();
        move |frontiers| {
            rows.for_each(|cap, data| {
                if let Some(&epoch) = cap.least() {
                    let windows = open.entry(epoch).or_default();
                    data.drain(..).for_each(|row| windows.add(row));
                }
            });
            while let Some(entry) = open.first_entry().filter(|e| !frontiers[0].less_equal(e.key())) {
                let windows = entry.remove();
                if let Some(Err(error)) = file.as_mut().map(|file| windows.write(file)) {
                    fail(error.context("writing the windows file"));
                    file = None;
                }
            }
        }
    });
}
