//! Figures that were taken for several crowds, as curves over how many there were.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::Measured;

/// Width and height of one panel.
const PANEL: (u32, u32) = (520, 320);
const COLUMNS: usize = 2;
/// What a metric's name says of how many there were.
const CROWD: &str = " devices: ";
const FONT: &str = "sans-serif";

/// One thing that was measured, for each crowd.
#[derive(Debug, PartialEq)]
struct Curve {
    what: String,
    unit: String,
    /// How many there were, and the figure.
    points: Vec<(f64, f64)>,
}

/// Draws every figure whose name says of how many devices it is; whether there was anything to draw.
pub(super) fn draw(figures: &[Measured], to: &Path) -> Result<bool, Box<dyn Error>> {
    let curves = curves(figures);
    if curves.is_empty() {
        return Ok(false);
    }
    let columns = curves.len().min(COLUMNS);
    let rows = curves.len().div_ceil(columns);
    let size = (PANEL.0 * u32::try_from(columns)?, PANEL.1 * u32::try_from(rows)?);
    let whole = SVGBackend::new(to, size).into_drawing_area();
    whole.fill(&WHITE)?;
    for (panel, curve) in whole.split_evenly((rows, columns)).iter().zip(&curves) {
        draw_one(panel, curve)?;
    }
    whole.present()?;
    Ok(true)
}

fn draw_one(
    panel: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    curve: &Curve,
) -> Result<(), Box<dyn Error>> {
    let crowds = curve.points.iter().map(|point| point.0);
    let (least, most) = crowds.fold((f64::MAX, f64::MIN), |(least, most), n| (least.min(n), most.max(n)));
    let top = curve.points.iter().map(|point| point.1).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(panel)
        .caption(&curve.what, (FONT, 16))
        .margin(14)
        .x_label_area_size(40)
        .y_label_area_size(62)
        .build_cartesian_2d((least * 0.8..most * 1.25).log_scale(), 0.0..top * 1.2)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("devices")
        .y_desc(&curve.unit)
        .x_label_formatter(&|n| format!("{n:.0}"))
        .label_style((FONT, 13))
        .draw()?;
    chart.draw_series(LineSeries::new(curve.points.iter().copied(), BLUE.stroke_width(2)))?;
    chart.draw_series(curve.points.iter().map(|point| Circle::new(*point, 4, BLUE.filled())))?;
    chart.draw_series(curve.points.iter().map(|point| {
        let style = (FONT, 12).into_font().color(&BLACK);
        EmptyElement::at(*point) + Text::new(super::figure::short(point.1), (-10, -18), style)
    }))?;
    Ok(())
}

/// What was measured for at least two crowds, from the smallest to the largest.
fn curves(figures: &[Measured]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for figure in figures {
        let Some((crowd, what)) = figure.metric.split_once(CROWD) else { continue };
        let Ok(crowd) = crowd.parse() else { continue };
        let point = (crowd, figure.value);
        match curves.iter_mut().find(|curve| curve.what == what) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { what: what.into(), unit: figure.unit.clone(), points: vec![point] }),
        }
    }
    curves.retain(|curve| curve.points.len() > 1);
    for curve in &mut curves {
        curve.points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    curves
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_was_measured_for_several_crowds_is_a_curve() {
        let figure = |metric, value| Measured::new(metric, value, "KiB");
        let figures = [
            figure("idle hub RSS", 20.0),
            figure("100 devices: RSS each", 111.0),
            figure("100 devices: only once", 1.0),
            figure("18000 devices: RSS each", 44.3),
            figure("1000 devices: RSS each", 49.1),
        ];
        let points = vec![(100.0, 111.0), (1000.0, 49.1), (18_000.0, 44.3)];
        assert_eq!(curves(&figures), [Curve { what: "RSS each".into(), unit: "KiB".into(), points }]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("curves.svg");
        assert!(!draw(&figures[..1], &file).unwrap() && !file.exists());
        assert!(draw(&figures, &file).unwrap());
        let drawn = std::fs::read_to_string(&file).unwrap();
        assert!(drawn.contains("RSS each") && drawn.contains("44.3") && drawn.contains("10000"), "{drawn}");
    }
}
