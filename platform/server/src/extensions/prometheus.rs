//! Measures in the text form of Prometheus (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;

use berth_model::extension::BreakerState;

use super::Live;

/// Lines by the name of the measure, which must stand together.
#[derive(Default)]
pub(super) struct Families(BTreeMap<String, (&'static str, String)>);

impl Families {
    /// One value.
    pub(super) fn add(
        &mut self,
        kind: &'static str,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        self.line(kind, name, name, labels, value);
    }

    fn line(
        &mut self,
        kind: &'static str,
        family: &str,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let (_, lines) = self.0.entry(family.to_owned()).or_insert_with(|| (kind, String::new()));
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{name}{labels} {value}");
    }

    /// Everything that one extension did.
    pub(super) fn extension(&mut self, live: &Live, now_ms: i64) {
        let health = live.health(now_ms);
        let manifest = &live.row.version.manifest;
        let own = [("extension", live.row.id.as_str())];
        let id = own[0];
        let about = [
            id,
            ("kind", manifest.kind.as_str()),
            ("version", manifest.version.as_str()),
            ("state", live.row.state.as_str()),
        ];
        self.add("gauge", "berth_extension_info", &about, 1.0);
        for (outcome, count) in &health.calls {
            let labels = [id, ("outcome", *outcome)];
            self.add("counter", "berth_extension_calls_total", &labels, *count as f64);
        }
        let breaker = match health.breaker {
            BreakerState::Healthy => 0.0,
            BreakerState::Degraded { .. } => 1.0,
            BreakerState::Quarantined => 2.0,
        };
        let broken = f64::from(u8::from(health.broken.is_some()));
        for (kind, name, value) in [
            ("counter", "berth_extension_refused_total", health.refused as f64),
            ("counter", "berth_extension_denied_total", health.denied as f64),
            ("counter", "berth_extension_cpu_seconds_total", health.cpu_us as f64 / 1e6),
            ("counter", "berth_extension_loads_total", health.loads as f64),
            ("gauge", "berth_extension_memory_peak_bytes", health.memory_peak_bytes as f64),
            ("gauge", "berth_extension_breaker_state", breaker),
            ("gauge", "berth_extension_broken", broken),
        ] {
            self.add(kind, name, &own, value);
        }
        self.durations(id, &health);
        for ((name, labels), series) in live.series() {
            let (kind, end) = if series.counter { ("counter", "_total") } else { ("gauge", "") };
            let mut all = vec![id];
            // The platform's own label says whose measure it is.
            all.extend(labels.iter().map(|(key, value)| match key.as_str() {
                "extension" => ("own_extension", value.as_str()),
                key => (key, value.as_str()),
            }));
            self.add(kind, &format!("berth_extension_own_{name}{end}"), &all, series.value);
        }
    }

    fn durations(&mut self, id: (&str, &str), health: &super::Health) {
        const NAME: &str = "berth_extension_duration_seconds";
        let mut below = 0;
        for (bound, count) in &health.durations {
            below += count;
            let bound =
                bound.map_or_else(|| "+Inf".to_owned(), |bound| (bound as f64 / 1e6).to_string());
            let labels = [id, ("le", bound.as_str())];
            self.line("histogram", NAME, &format!("{NAME}_bucket"), &labels, below as f64);
        }
        let seconds = health.wall_us as f64 / 1e6;
        self.line("histogram", NAME, &format!("{NAME}_sum"), &[id], seconds);
        self.line("histogram", NAME, &format!("{NAME}_count"), &[id], below as f64);
    }

    /// The text.
    pub(super) fn text(self) -> String {
        let mut text = String::new();
        for (name, (kind, lines)) in self.0 {
            let _ = write!(text, "# TYPE {name} {kind}\n{lines}");
        }
        text
    }
}

/// A value of a label, as the text form wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_measure_stand_together_and_values_are_escaped() {
        let mut families = Families::default();
        families.add("counter", "b_total", &[("x", "a\"b\\c\nd")], 1.5);
        families.add("gauge", "a", &[], 2.0);
        families.add("counter", "b_total", &[("x", "e")], 2.0);
        assert_eq!(
            families.text(),
            "# TYPE a gauge\na 2\n# TYPE b_total counter\nb_total{x=\"a\\\"b\\\\c\\nd\"} 1.5\n\
             b_total{x=\"e\"} 2\n"
        );
    }
}
