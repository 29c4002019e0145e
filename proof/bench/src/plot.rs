//! CPU per notification by batch size, as an SVG that follows the reader's light or dark mode.

use crate::error::Error;
use crate::measure::{Comparison, Cost};
use crate::output::thousands;
use crate::subject::Variant;
use plotters::prelude::*;
use std::path::Path;

/// Both colours are readable on white and on black.
const DEPLOYED: RGBColor = RGBColor(9, 105, 218);
const BASELINE: RGBColor = RGBColor(188, 110, 0);
const LINES: RGBColor = RGBColor(128, 128, 128);

/// A style sheet takes precedence over the colours of the elements.
const STYLE: &str = "<style>text { fill: #1f2328; font-family: system-ui, sans-serif } \
    @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }</style>";

const SIZE: (u32, u32) = (900, 640);
const FONT: &str = "sans-serif";

/// Draws comparisons: a chart for each function.
pub(crate) fn draw(path: &Path, comparisons: &[Comparison], baseline: Variant) -> Result<(), Error> {
    let mut svg = String::new();
    charts(&mut svg, comparisons, baseline).map_err(|error| Error::Plot(error.to_string()))?;
    let styled = svg.replacen(">\n", &format!(">\n{STYLE}\n"), 1);
    std::fs::write(path, styled).map_err(|cause| Error::File { path: path.to_owned(), cause })
}

fn charts(svg: &mut String, comparisons: &[Comparison], baseline: Variant) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let root = root.titled("CPU for a notification in µs, by size of batch", (FONT, 18))?;
    let all = || comparisons.iter().flat_map(|c| [c.deployed.cpu_us.median, c.baseline.cpu_us.median]);
    let batches = || comparisons.iter().map(|c| c.batch);
    let (smallest, largest) = (batches().min().unwrap_or(1), batches().max().unwrap_or(1));
    let (lowest, highest) = (all().fold(f64::INFINITY, f64::min), all().fold(1.0, f64::max));

    let functions = comparisons.chunk_by(|a, b| a.function == b.function);
    for (area, of_function) in root.split_evenly((2, 2)).iter().zip(functions) {
        let mut chart = ChartBuilder::on(area)
            .caption(of_function[0].function.words(), (FONT, 16))
            .margin(12)
            .x_label_area_size(24)
            .y_label_area_size(40)
            // Leaves room for the labels at the last points and above the lines.
            .build_cartesian_2d((smallest..largest * 8).log_scale(), (lowest / 2.0..highest * 2.0).log_scale())?;
        chart
            .configure_mesh()
            .max_light_lines(0)
            .bold_line_style(LINES.mix(0.3))
            .axis_style(LINES)
            .label_style((FONT, 12))
            .y_labels(4)
            .x_label_formatter(&|batch| thousands(*batch))
            .y_label_formatter(&|micros| format!("{micros}"))
            .draw()?;
        for (name, colour, cost) in [
            (baseline.words(), BASELINE, (|c| &c.baseline) as fn(&Comparison) -> &Cost),
            ("deployed", DEPLOYED, |c| &c.deployed),
        ] {
            let complete = of_function.iter().filter(|c| cost(c).incomplete == 0.0);
            let points: Vec<_> = complete.map(|c| (c.batch, cost(c).cpu_us.median)).collect();
            chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)).point_size(3))?;
            let last = points.last().map(|(batch, _)| *batch);
            let text = |(batch, micros): (usize, f64)| {
                let name = if Some(batch) == last { name } else { "" };
                format!("{micros:.1} {name}")
            };
            chart.draw_series(
                points.into_iter().map(|point| EmptyElement::at(point) + Text::new(text(point), (4, -16), (FONT, 13))),
            )?;
        }
    }
    root.present()?;
    Ok(())
}
