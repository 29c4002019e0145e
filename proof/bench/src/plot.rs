//! CPU per notification by batch size, as an SVG that follows the reader's light or dark mode.

use crate::error::Error;
use crate::measure::{Comparison, Cost, Metric};
use crate::output::thousands;
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
pub(crate) fn draw(path: &Path, comparisons: &[Comparison], baseline: &str) -> Result<(), Error> {
    let mut svg = String::new();
    charts(&mut svg, comparisons, baseline).map_err(Error::cannot("draw the plot"))?;
    let styled = svg.replacen(">\n", &format!(">\n{STYLE}\n"), 1);
    std::fs::write(path, styled).map_err(Error::cannot(format!("write {}", path.display())))
}

fn charts(svg: &mut String, comparisons: &[Comparison], baseline: &str) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let root = root.titled("CPU for a notification in µs, by size of batch", (FONT, 18))?;
    let all = || comparisons.iter().flat_map(|c| [cpu(&c.deployed), cpu(&c.baseline)]);
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
            (baseline, BASELINE, (|c| &c.baseline) as fn(&Comparison) -> &Cost),
            ("deployed", DEPLOYED, |c| &c.deployed),
        ] {
            let points = of_function.iter().map(|c| (c.batch, cpu(cost(c))));
            let points: Vec<_> = points.filter(|(_, micros)| !micros.is_nan()).collect();
            chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)).point_size(3))?;
            for (place, &(batch, micros)) in points.iter().enumerate() {
                let name = if place + 1 == points.len() { name } else { "" };
                let text = Text::new(format!("{micros:.1} {name}"), (4, -16), (FONT, 13));
                chart.draw_series([EmptyElement::at((batch, micros)) + text])?;
            }
        }
    }
    root.present()?;
    Ok(())
}

fn cpu(cost: &Cost) -> f64 {
    cost.figure(Metric::CpuUs).median
}
