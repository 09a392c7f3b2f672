//! Reading what was measured: a span of time in at most [`POINTS_MAX`] points.

use std::collections::BTreeMap;
use std::io;

use berth_api::{MeasureSeries, MeasuresView, Timestamp};
use berth_measures::{Merge, Resolution, RingFile};
use berth_model::AppId;

use super::fields::{self, APP, APP_WIDTH, Field, HOST, INSTANCE};
use super::sample::Values;
use super::{Files, HOST_NAME, Measures, MeasuresConfig, Named};

/// Most points of a series.
const POINTS_MAX: u64 = 1_000;
/// Most instances in one answer, by name.
const NAMES_MAX: usize = 100;

/// What of it, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Names of measures; all of them when there is none.
    pub names: Vec<String>,
    /// Unix milliseconds.
    pub from_ms: i64,
    /// Unix milliseconds.
    pub to_ms: i64,
    /// Milliseconds; as short as is possible without it.
    pub step_ms: Option<u64>,
}

/// It cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no such measure.
    #[error("there is no measure '{name}'; these are: {known}")]
    Name {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The end is not after the beginning.
    #[error("the end is not after the beginning")]
    Span,
    /// The disk does not tell.
    #[error("what was measured cannot be read")]
    Read(#[from] io::Error),
}

/// The steps of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    resolution: Resolution,
    from_ms: i64,
    period_ms: u64,
    /// Periods in one step.
    each: u64,
    count: u64,
}

impl Steps {
    /// Fine records as far as they reach back, else coarse ones; as many of them in a step as the
    /// number of points demands.
    fn of(wanted: &Wanted, config: &MeasuresConfig, now_ms: i64) -> Result<Self, QueryError> {
        if wanted.to_ms <= wanted.from_ms {
            return Err(QueryError::Span);
        }
        let is_fine = wanted.from_ms >= now_ms - config.fine.length_ms();
        let resolution = if is_fine { Resolution::Fine } else { Resolution::Coarse };
        let span = if is_fine { config.fine } else { config.coarse };
        // What is over by now, and is still kept.
        let oldest = now_ms - span.length_ms();
        let from_ms = wanted.from_ms.max(oldest).max(0);
        let to_ms = wanted.to_ms.min(now_ms).max(from_ms);
        let period_ms = u64::from(span.period_ms);
        let length = u64::try_from(to_ms - from_ms).unwrap_or(0);
        // One step less: the first and the last are cut by the span's ends.
        let least = length.div_ceil(period_ms).div_ceil(POINTS_MAX - 1).max(1);
        let asked = wanted.step_ms.unwrap_or(0).div_ceil(period_ms);
        let each = least.max(asked).min(u64::from(span.records));
        let step_ms = i64::try_from(each * period_ms).unwrap_or(i64::MAX);
        let from_ms = from_ms / step_ms * step_ms;
        // The period that is not over has no record yet.
        let over = to_ms / period_ms as i64 * period_ms as i64;
        let count = u64::try_from(over - from_ms).unwrap_or(0).div_ceil(each * period_ms);
        Ok(Self { resolution, from_ms, period_ms, each, count: count.min(POINTS_MAX) })
    }

    fn step_ms(&self) -> u64 {
        self.each * self.period_ms
    }

    fn read(&self, file: &RingFile, name: &str) -> io::Result<Vec<Option<Values>>> {
        let periods = u32::try_from(self.count * self.each).unwrap_or(u32::MAX);
        file.read(name, self.resolution, self.from_ms, periods)
    }

    fn view(&self, series: Vec<MeasureSeries>) -> MeasuresView {
        let step_ms = i64::try_from(self.step_ms()).unwrap_or(i64::MAX);
        let at = |index: u64| self.from_ms + step_ms * i64::try_from(index).unwrap_or(0);
        MeasuresView {
            from: Timestamp(self.from_ms),
            to: Timestamp(at(self.count)),
            step_ms: self.step_ms(),
            timestamps: (0..self.count).map(at).collect(),
            series,
        }
    }

    /// One number of the records of each step.
    fn column(&self, records: &[Option<Values>], index: usize, merge: Merge) -> Values {
        let steps = records.chunks(usize::try_from(self.each).unwrap_or(1));
        steps
            .map(|step| merge.of(step.iter().flatten().filter_map(|values| values[index])))
            .collect()
    }
}

impl Measures {
    /// What was measured of an app.
    ///
    /// # Errors
    /// A name that no measure of apps has; a span that is none; what the disk says.
    pub async fn of_app(
        &self,
        app: AppId,
        wanted: Wanted,
        now_ms: i64,
    ) -> Result<MeasuresView, QueryError> {
        let names = names(&wanted, fields::app_names().collect())?;
        let steps = Steps::of(&wanted, &self.inner.config, now_ms)?;
        self.read(move |files| {
            let mut series = requests(files, app, &steps, &names)?;
            series.extend(instances(files, app, &steps, &names)?);
            Ok(steps.view(series))
        })
        .await
        .map(|found| found.unwrap_or_else(|| steps.view(Vec::new())))
    }

    /// What was measured of the machine.
    ///
    /// # Errors
    /// A name that no measure of the machine has; a span that is none; what the disk says.
    pub async fn of_host(&self, wanted: Wanted, now_ms: i64) -> Result<MeasuresView, QueryError> {
        let names = names(&wanted, fields::host_names().collect())?;
        let steps = Steps::of(&wanted, &self.inner.config, now_ms)?;
        self.read(move |files| {
            let records = steps.read(&files.host, HOST_NAME)?;
            let is_wanted = |field: &&Field| names.contains(&field.name);
            let series = HOST.iter().enumerate().filter(|(_, field)| is_wanted(field));
            let series = series.map(|(index, field)| MeasureSeries {
                name: field.name.to_owned(),
                unit: field.unit.to_owned(),
                process: field.process.map(str::to_owned),
                instance: None,
                values: rounded(steps.column(&records, index, field.merge)),
            });
            Ok(steps.view(series.collect()))
        })
        .await
        .map(|found| found.unwrap_or_else(|| steps.view(Vec::new())))
    }

    /// Nothing where nothing is kept.
    async fn read<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Files) -> io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, QueryError> {
        let own = self.clone();
        let read = tokio::task::spawn_blocking(move || own.files().as_ref().map(what).transpose());
        Ok(read.await.map_err(io::Error::other)??)
    }
}

/// The wanted names of those that there are, or all.
fn names(wanted: &Wanted, known: Vec<&'static str>) -> Result<Vec<&'static str>, QueryError> {
    if wanted.names.is_empty() {
        return Ok(known);
    }
    let unknown = wanted.names.iter().find(|name| !known.contains(&name.as_str()));
    match unknown {
        Some(name) => Err(QueryError::Name { name: name.clone(), known: known.join(", ") }),
        None => {
            Ok(known.into_iter().filter(|name| wanted.names.iter().any(|n| n == name)).collect())
        }
    }
}

/// Of what the router counted. An app without a record in a period in which the router was asked
/// had no requests.
fn requests(
    files: &Files,
    app: AppId,
    steps: &Steps,
    names: &[&str],
) -> io::Result<Vec<MeasureSeries>> {
    let wanted: Vec<_> = APP.iter().filter(|(name, _)| names.contains(name)).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let counted = HOST.len() - 1;
    let each = usize::try_from(steps.each).unwrap_or(1);
    let records = steps.read(&files.apps, &app.to_string())?;
    let host = steps.read(&files.host, HOST_NAME)?;
    let mut sums: Vec<Option<(Vec<f64>, f64)>> = Vec::new();
    for (records, host) in records.chunks(each).zip(host.chunks(each)) {
        let asked = host.iter().flatten().filter(|values| values[counted].is_some()).count();
        let periods = asked.max(records.iter().flatten().count());
        let sum = |index: usize| records.iter().flatten().filter_map(|values| values[index]).sum();
        let seconds = periods as f64 * steps.period_ms as f64 / 1000.0;
        sums.push((periods > 0).then(|| ((0..APP_WIDTH).map(sum).collect(), seconds)));
    }
    let series = wanted.into_iter().map(|(name, unit)| MeasureSeries {
        name: (*name).to_owned(),
        unit: (*unit).to_owned(),
        process: None,
        instance: None,
        values: rounded(
            sums.iter()
                .map(|sums| sums.as_ref().and_then(|(sums, s)| fields::of_app(name, sums, *s)))
                .collect(),
        ),
    });
    Ok(series.collect())
}

fn instances(
    files: &Files,
    app: AppId,
    steps: &Steps,
    names: &[&str],
) -> io::Result<Vec<MeasureSeries>> {
    let fields: Vec<(usize, &Field)> =
        INSTANCE.iter().enumerate().filter(|(_, field)| names.contains(&field.name)).collect();
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    let mut rings: BTreeMap<Named, Vec<&str>> = BTreeMap::new();
    for (ring, last_ms) in files.instances.names() {
        let Some(named) = Named::parse(ring).filter(|named| named.app == app) else { continue };
        // Its last record may be the coarse one that its last period is in.
        if last_ms + i64::from(files.instances.form().coarse.period_ms) > steps.from_ms {
            rings.entry(named).or_default().push(ring);
        }
    }
    let mut found: Vec<(usize, MeasureSeries)> = Vec::new();
    for (named, rings) in rings.into_iter().take(NAMES_MAX) {
        let mut all = Vec::with_capacity(rings.len());
        for ring in rings {
            all.push(steps.read(&files.instances, ring)?);
        }
        for (index, field) in &fields {
            let columns: Vec<Values> =
                all.iter().map(|records| steps.column(records, *index, field.merge)).collect();
            let point = |at: usize| field.across.of(columns.iter().filter_map(|c| c[at]));
            let values: Values =
                (0..usize::try_from(steps.count).unwrap_or(0)).map(point).collect();
            if values.iter().all(Option::is_none) {
                continue;
            }
            let series = MeasureSeries {
                name: field.name.to_owned(),
                unit: field.unit.to_owned(),
                process: Some(named.process.clone()),
                instance: Some(format!("{}.{}", named.process, named.slot)),
                values: rounded(values),
            };
            found.push((*index, series));
        }
    }
    // By name first; names of instances stay in their order.
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, series)| series).collect())
}

/// Six digits: no more was kept, and every further one would only be written.
fn rounded(mut values: Values) -> Values {
    for value in values.iter_mut().flatten().filter(|value| **value != 0.0) {
        let places = 5 - value.abs().log10().floor() as i32;
        // Powers of ten beyond this are not exact.
        let scale = 10_f64.powi(places.clamp(-20, 20).abs());
        let of_one = if places >= 0 {
            (*value * scale).round() / scale
        } else {
            (*value / scale).round() * scale
        };
        *value = of_one;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_004_321;
    const HOUR_MS: i64 = 3_600_000;

    fn steps(ago_ms: i64, length_ms: i64, step_ms: Option<u64>) -> Steps {
        let from_ms = NOW_MS - ago_ms;
        let wanted = Wanted { names: Vec::new(), from_ms, to_ms: from_ms + length_ms, step_ms };
        Steps::of(&wanted, &MeasuresConfig::default(), NOW_MS).unwrap()
    }

    #[test]
    fn a_span_has_at_most_a_thousand_points_in_the_finest_steps_that_are_kept() {
        for (hours, resolution, step_s) in [
            (1, Resolution::Fine, 10),
            (2, Resolution::Fine, 10),
            (3, Resolution::Fine, 20),
            (24, Resolution::Fine, 90),
            (25, Resolution::Coarse, 300),
            (24 * 7, Resolution::Coarse, 900),
            (24 * 30, Resolution::Coarse, 2_700),
            (24 * 400, Resolution::Coarse, 2_700),
        ] {
            let steps = steps(hours * HOUR_MS, hours * HOUR_MS, None);
            assert_eq!((steps.resolution, steps.step_ms()), (resolution, step_s * 1000), "{hours}");
            assert!(steps.count <= POINTS_MAX && steps.count >= 300, "{hours}: {}", steps.count);
            assert_eq!(steps.from_ms % i64::try_from(steps.step_ms()).unwrap(), 0);
        }
    }

    #[test]
    fn a_longer_step_is_taken_and_a_shorter_one_is_not() {
        assert_eq!(steps(HOUR_MS, HOUR_MS, Some(60_000)).step_ms(), 60_000);
        assert_eq!(steps(HOUR_MS, HOUR_MS, Some(61_000)).step_ms(), 70_000);
        assert_eq!(steps(HOUR_MS, HOUR_MS, Some(1)).step_ms(), 10_000);
        assert_eq!(steps(HOUR_MS, HOUR_MS, Some(u64::MAX)).count, 1);
        assert_eq!(steps(24 * HOUR_MS, 24 * HOUR_MS, Some(10_000)).step_ms(), 90_000);
    }

    #[test]
    fn what_is_not_over_yet_has_no_point() {
        let now = steps(60_000, 60_000, None);
        assert_eq!((now.from_ms, now.count), (NOW_MS - 64_321, 6));
        let future = steps(60_000, 10 * HOUR_MS, None);
        assert_eq!((future.from_ms, future.count), (now.from_ms, 6));
        assert_eq!(steps(-HOUR_MS, HOUR_MS, None).count, 0);
        let wanted = Wanted { names: Vec::new(), from_ms: 5, to_ms: 5, step_ms: None };
        assert!(Steps::of(&wanted, &MeasuresConfig::default(), NOW_MS).is_err());
    }

    #[test]
    fn numbers_have_six_digits() {
        let values = [0.100_000_001_5, 123_456_789.0, 0.0, 2.5, -1.234_567_89, 1e-30];
        let values = rounded(values.into_iter().map(Some).collect());
        let expected = [0.1, 123_457_000.0, 0.0, 2.5, -1.234_57];
        for (value, expected) in values.iter().zip(expected) {
            assert_eq!(*value, Some(expected));
        }
        assert!(values[5].is_some_and(f64::is_finite));
    }
}
