//! `berth stats` and `berth alerts`.

use std::time::Duration;

use berth_api::{AlertView, CreateAlert, MeasureSeries, MeasuresView};
use berth_model::size::ByteSize;
use reqwest::Method;

use super::{all, app_path, when};
use crate::arguments::{Alerts, Stats};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};

/// Columns of a sparkline.
const SPARKS: usize = 24;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(crate) async fn stats(command: Stats, client: &Client, output: &Output) -> Result<(), Failure> {
    let base = match command.host {
        true => "/v1/host".to_owned(),
        false => app_path(&command.app, client)?,
    };
    let mut path = format!("{base}/measures?from={}", segment(&command.since));
    for (name, value) in [("step", &command.step), ("names", &command.names)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(value)));
        }
    }
    let measures: MeasuresView = client.get(&path).await?;
    output.value(&measures, |measures| {
        let rows: Vec<Vec<String>> = measures.series.iter().filter_map(row).collect();
        if rows.is_empty() {
            output.note("Nothing was measured in that time; the first values come within seconds.");
        }
        table(&["OF", "MEASURE", "NOW", "MEAN", "MOST", "COURSE"], &rows)
    })
}

/// Nothing for what was never measured.
fn row(series: &MeasureSeries) -> Option<Vec<String>> {
    let known: Vec<f64> = series.values.iter().flatten().copied().collect();
    let most = known.iter().copied().reduce(f64::max)?;
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let of = series.instance.as_deref().or(series.process.as_deref()).unwrap_or("all");
    let unit = series.unit.as_str();
    // The newest point may not have been written yet.
    let now = series.values.iter().rev().take(2).find_map(|value| *value);
    Some(vec![
        of.to_owned(),
        series.name.clone(),
        now.map_or_else(|| "-".to_owned(), |value| shown(value, unit)),
        shown(mean, unit),
        shown(most, unit),
        sparks(&series.values, most),
    ])
}

/// A value as people read it.
fn shown(value: f64, unit: &str) -> String {
    match unit {
        "B" | "B/s" => {
            let per = if unit == "B" { "" } else { "/s" };
            let (mut value, mut names) = (value, ["B", "KiB", "MiB", "GiB", "TiB"].into_iter());
            let mut name = names.next().unwrap_or_default();
            while value >= 1024.0 {
                let Some(next) = names.next() else { break };
                (value, name) = (value / 1024.0, next);
            }
            let digits = usize::from(value < 100.0 && name != "B");
            format!("{value:.digits$} {name}{per}")
        }
        "ms" if value >= 1000.0 => format!("{:.2} s", value / 1000.0),
        "ms" => format!("{value:.1} ms"),
        "1" | "1/s" if value.fract() == 0.0 || value >= 100.0 => {
            format!("{value:.0}{}", unit.trim_start_matches('1'))
        }
        "1" | "1/s" => format!("{value:.2}{}", unit.trim_start_matches('1')),
        unit => format!("{value:.2} {unit}"),
    }
}

/// The largest value of each part of the time, from nothing up to `most`; a blank where nothing was
/// measured.
fn sparks(values: &[Option<f64>], most: f64) -> String {
    let size = values.len().div_ceil(SPARKS).max(1);
    let part = |part: &[Option<f64>]| {
        let Some(value) = part.iter().flatten().copied().reduce(f64::max) else { return ' ' };
        let height = if most > 0.0 { value.max(0.0) / most } else { 0.0 };
        BARS[((height * 7.0).round() as usize).min(7)]
    };
    values.chunks(size).map(part).collect()
}

pub(crate) async fn alerts(
    command: Alerts,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        Alerts::List { app } => {
            let query = app.map(|app| format!("?app={}", segment(&app))).unwrap_or_default();
            let alerts = all::<AlertView>(client, &format!("/v1/alerts{query}")).await?;
            output.value(&alerts, |page| {
                if page.items.is_empty() {
                    output.note(
                        "No alerts. Make one with `berth alerts add latency_p95 above 500 --for 5m`.",
                    );
                }
                let rows: Vec<Vec<String>> = page.items.iter().map(alert_row).collect();
                table(&["ID", "OF", "RULE", "STATE"], &rows)
            })
        }
        Alerts::Add { measure, comparison, value, lasting, app, host } => {
            let app = match host {
                true => None,
                false => Some(crate::app_name::resolve(app.name.as_deref(), client.server())?),
            };
            let for_s = lasting.as_deref().map(seconds).transpose()?;
            let value = number(&value)?;
            let body = CreateAlert { app, measure, comparison, value, for_s };
            let alert: AlertView = client.send_json(Method::POST, "/v1/alerts", &body).await?;
            output.value(&alert, |alert| {
                format!("{} tells when {} of {}", alert.id, rule(alert), of(alert))
            })
        }
        Alerts::Remove { alert } => {
            client.delete(&format!("/v1/alerts/{}", segment(&alert))).await?;
            output.note(&format!("{alert} tells nothing any more"));
            Ok(())
        }
    }
}

fn alert_row(alert: &AlertView) -> Vec<String> {
    let state = match alert.raised_at {
        Some(at) => format!("raised {}", when(at)),
        None => "well".to_owned(),
    };
    vec![alert.id.clone(), of(alert).to_owned(), rule(alert), state]
}

fn of(alert: &AlertView) -> &str {
    alert.app.as_deref().unwrap_or("the machine")
}

fn rule(alert: &AlertView) -> String {
    let lasting = match alert.for_s {
        0 => String::new(),
        s => format!(" for {}", humantime::format_duration(Duration::from_secs(s.into()))),
    };
    format!("{} is {} {}{lasting}", alert.measure, alert.comparison, alert.value)
}

fn number(text: &str) -> Result<f64, Failure> {
    let size = || text.parse::<ByteSize>().ok().map(|size| size.0 as f64);
    let read = text.parse::<f64>().ok().filter(|value| value.is_finite()).or_else(size);
    read.ok_or_else(|| Failure::usage(format!("'{text}' is no number, and no size such as 400MiB")))
}

fn seconds(text: &str) -> Result<u32, Failure> {
    let read = humantime::parse_duration(text).ok();
    let seconds = read.and_then(|time| u32::try_from(time.as_secs()).ok());
    seconds.ok_or_else(|| Failure::usage(format!("'{text}' is not a time like 30s or 5m")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_with_the_unit_that_people_read() {
        for (value, unit, text) in [
            (0.0, "B", "0 B"),
            (1536.0, "B", "1.5 KiB"),
            (300.0 * 1024.0 * 1024.0, "B/s", "300 MiB/s"),
            (0.5, "cores", "0.50 cores"),
            (3.0, "1", "3"),
            (0.25, "1", "0.25"),
            (12.0, "1/s", "12/s"),
            (2.4, "ms", "2.4 ms"),
            (2_400.0, "ms", "2.40 s"),
        ] {
            assert_eq!(shown(value, unit), text);
        }
    }

    #[test]
    fn a_course_has_a_blank_where_nothing_was_measured() {
        assert_eq!(sparks(&[Some(0.0), None, Some(5.0), Some(10.0)], 10.0), "▁ ▅█");
        assert_eq!(sparks(&[Some(0.0); 3], 0.0), "▁▁▁");
        let long: Vec<_> = (0..1000).map(|n| Some(f64::from(n))).collect();
        assert!(sparks(&long, 999.0).chars().count() <= SPARKS);
    }

    #[test]
    fn a_threshold_is_a_number_or_a_size() {
        assert_eq!(number("0.9").unwrap(), 0.9);
        assert_eq!(number("400MiB").unwrap(), 419_430_400.0);
        for text in ["", "NaN", "much", "90%"] {
            assert!(number(text).is_err(), "{text}");
        }
        assert_eq!(seconds("5m").unwrap(), 300);
        assert!(seconds("soon").is_err());
    }
}
