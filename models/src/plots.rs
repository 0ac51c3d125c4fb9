//! Pictures of a model, as SVG: how scores lie, what was flagged when, which features matter.

use crate::bundle::Bundle;
use crate::export::File;
use crate::rows::{Row, Rows, WHOLE_STREAM};
use plotters::coord::Shift;
use plotters::prelude::*;

const SIZE: (u32, u32) = (900, 420);
/// Height of one feature's panel.
const PANEL: u32 = 150;
const BINS: usize = 60;
/// Points drawn of a feature at the most, so that a picture of a month is no larger than one of a day.
const POINTS_MAX: usize = 2_000;
/// Windows explained for the importance.
const EXPLAINED_MAX: usize = 500;
const CALM: RGBColor = RGBColor(70, 110, 170);
const FLAGGED: RGBColor = RGBColor(200, 60, 50);

type Fault = Box<dyn std::error::Error>;
type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Every picture, by its path below a run's artifacts. One that cannot be drawn is left out, and told.
pub fn plots(bundle: &Bundle, rows: &Rows) -> Vec<File> {
    let stream: Vec<&Row> = rows.rows.iter().filter(|row| row.service == WHOLE_STREAM).collect();
    let panels = u32::try_from(bundle.features.len()).unwrap_or(1);
    let drawn = [
        ("plots/scores.svg", svg(SIZE, |canvas| histogram(canvas, bundle, rows))),
        (
            "plots/features.svg",
            svg((SIZE.0, PANEL * panels + 30), |canvas| features(canvas, bundle, &stream)),
        ),
        ("plots/importance.svg", svg((SIZE.0, 60 + 40 * panels), |canvas| importance(canvas, bundle, rows))),
    ];
    drawn
        .into_iter()
        .filter_map(|(name, picture)| match picture {
            Ok(picture) => Some((name.to_owned(), picture.into_bytes())),
            Err(fault) => {
                tracing::warn!("{name} could not be drawn: {fault}");
                None
            }
        })
        .collect()
}

fn svg(size: (u32, u32), draw: impl FnOnce(&Canvas<'_>) -> Result<(), Fault>) -> Result<String, Fault> {
    let mut text = String::new();
    let canvas = SVGBackend::with_string(&mut text, size).into_drawing_area();
    canvas.fill(&WHITE)?;
    draw(&canvas)?;
    canvas.present()?;
    drop(canvas);
    Ok(text)
}

fn histogram(canvas: &Canvas<'_>, bundle: &Bundle, rows: &Rows) -> Result<(), Fault> {
    let scored: Vec<_> = rows.rows.iter().filter_map(|row| bundle.score(&row.service, &row.values)).collect();
    let low = scored.iter().map(|s| s.score).fold(0.5, f64::min);
    let high = scored.iter().map(|s| s.score.max(s.alert_threshold)).fold(0.6, f64::max);
    let width = (high - low) / BINS as f64;
    let mut bins = [0_u32; BINS];
    for s in &scored {
        bins[(((s.score - low) / width) as usize).min(BINS - 1)] += 1;
    }
    let tallest = f64::from(bins.iter().copied().max().unwrap_or(1).max(1));
    let mut chart = ChartBuilder::on(canvas)
        .caption("Anomaly scores of the training windows", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(low..high + width, 0.0..tallest * 1.05)?;
    chart.configure_mesh().x_desc("score").y_desc("windows").disable_x_mesh().draw()?;
    chart.draw_series(bins.iter().enumerate().map(|(bin, &count)| {
        let from = low + bin as f64 * width;
        let color = if from >= bundle.stream.threshold { FLAGGED } else { CALM };
        Rectangle::new([(from, 0.0), (from + width, f64::from(count))], color.filled())
    }))?;
    for (at, label) in
        [(bundle.stream.threshold, "threshold"), (bundle.stream.alert_threshold, "alert threshold")]
    {
        chart.draw_series(LineSeries::new([(at, 0.0), (at, tallest)], BLACK.stroke_width(1)))?;
        chart.draw_series([Text::new(
            format!("{label} {at:.3}"),
            (at + width / 4.0, tallest),
            ("sans-serif", 12),
        )])?;
    }
    Ok(())
}

fn features(canvas: &Canvas<'_>, bundle: &Bundle, stream: &[&Row]) -> Result<(), Fault> {
    let (Some(first), Some(last)) = (stream.first(), stream.last()) else { return Ok(()) };
    let is_flagged =
        |row: &Row| bundle.score(WHOLE_STREAM, &row.values).is_some_and(|s| s.score > s.threshold);
    let step = stream.len().div_ceil(POINTS_MAX).max(1);
    let shown: Vec<(&Row, bool)> = stream.iter().step_by(step).map(|row| (*row, is_flagged(row))).collect();
    let time = |second: &i64| {
        jiff::Timestamp::from_second(*second)
            .map_or_else(|_| second.to_string(), |time| time.strftime("%m-%d %H:%M").to_string())
    };
    let (head, below) = canvas.split_vertically(30);
    head.titled("Features of the whole stream; red: beyond the threshold", ("sans-serif", 16))?;
    for (feature, (panel, name)) in
        below.split_evenly((bundle.features.len(), 1)).iter().zip(&bundle.features).enumerate()
    {
        let values = || shown.iter().map(|(row, _)| row.values[feature]);
        let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
        let room = ((high - low) * 0.05).max(high.abs() * 1e-3).max(1e-6);
        let mut chart = ChartBuilder::on(panel)
            .margin(4)
            .x_label_area_size(20)
            .y_label_area_size(70)
            .build_cartesian_2d(first.end..last.end.max(first.end + 1), low - room..high + room)?;
        chart.configure_mesh().y_desc(name).y_labels(4).x_label_formatter(&time).disable_x_mesh().draw()?;
        chart.draw_series(LineSeries::new(
            shown.iter().map(|(row, _)| (row.end, row.values[feature])),
            CALM,
        ))?;
        let flagged = shown.iter().filter(|(_, flagged)| *flagged);
        chart.draw_series(
            flagged.map(|(row, _)| Circle::new((row.end, row.values[feature]), 2, FLAGGED.filled())),
        )?;
    }
    Ok(())
}

/// Mean share of each feature in the scores of the strangest windows.
pub fn importances(bundle: &Bundle, rows: &Rows) -> Vec<f64> {
    let mut strangest: Vec<(f64, &Row)> = rows
        .rows
        .iter()
        .filter_map(|row| Some((bundle.score(&row.service, &row.values)?.score, row)))
        .collect();
    strangest.sort_by(|a, b| b.0.total_cmp(&a.0));
    strangest.truncate(EXPLAINED_MAX);
    let mut shares = vec![0.0; bundle.features.len()];
    let mut explained = 0.0;
    for (_, row) in strangest {
        let Some(of_row) = bundle.explain(&row.service, &row.values) else { continue };
        explained += 1.0;
        shares.iter_mut().zip(of_row).for_each(|(sum, share)| *sum += share);
    }
    shares.iter_mut().for_each(|share| *share /= f64::max(explained, 1.0));
    shares
}

fn importance(canvas: &Canvas<'_>, bundle: &Bundle, rows: &Rows) -> Result<(), Fault> {
    let shares = importances(bundle, rows);
    let most = shares.iter().copied().fold(0.01, f64::max);
    let count = bundle.features.len() as i32;
    let name = |at: &i32| {
        usize::try_from(*at).ok().and_then(|at| bundle.features.get(at)).cloned().unwrap_or_default()
    };
    let mut chart = ChartBuilder::on(canvas)
        .caption("Mean share in the scores of the strangest windows", ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(26)
        .y_label_area_size(150)
        .build_cartesian_2d(0.0..most * 1.05, -1..count)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bundle.features.len() + 2)
        .y_label_formatter(&name)
        .x_label_formatter(&|share| format!("{:.0} %", share * 100.0))
        .draw()?;
    chart.draw_series(shares.iter().zip(0..).map(|(&share, at)| {
        let mut bar = Rectangle::new([(0.0, at), (share, at)], CALM.filled());
        bar.set_margin(0, 0, 0, 0);
        bar
    }))?;
    chart.draw_series(
        shares
            .iter()
            .zip(0..)
            .map(|(&share, at)| PathElement::new([(0.0, at), (share, at)], CALM.stroke_width(16))),
    )?;
    Ok(())
}
