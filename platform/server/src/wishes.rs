//! What an app's `app.json` wants in its configuration, and the configuration lacks.

use berth_build::manifest::ConfigWish;
use berth_model::plan::{Config, ConfigName, Secret};

/// Random bytes of a generated secret, shown as twice as many hex digits.
const SECRET_BYTES: usize = 32;

/// The values to set: those of the file where nothing is set, and generated secrets.
///
/// # Errors
/// In words, when the system gives no random bytes.
pub(crate) fn to_set(wishes: &[ConfigWish], config: &Config) -> Result<Config, String> {
    let mut set = Config::new();
    for wish in wishes {
        let Ok(name) = wish.name.parse::<ConfigName>() else { continue };
        let known = config.get(&name);
        // A value that is kept in step with the file is set again when it differs.
        let differs = known.map(Secret::reveal) != wish.value.as_deref();
        if known.is_some() && !(wish.sync && wish.value.is_some() && differs) {
            continue;
        }
        let value = match &wish.value {
            Some(value) => value.clone(),
            None if wish.secret => generate()?,
            None => continue,
        };
        set.insert(name, Secret::new(value));
    }
    Ok(set)
}

fn generate() -> Result<String, String> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| format!("no secret can be generated: {error}"))?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &str, value: Option<&str>, secret: bool) -> ConfigWish {
        ConfigWish {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            secret,
            required: false,
            sync: false,
        }
    }

    #[test]
    fn what_is_set_stays_and_what_is_wanted_is_added_or_generated() {
        let name = |text: &str| text.parse::<ConfigName>().unwrap();
        let config = Config::from([(name("MODE"), Secret::new("mine"))]);
        let wishes = [
            wish("MODE", Some("theirs"), false),
            wish("LEVEL", Some("3"), false),
            wish("KEY", None, true),
            wish("X", None, false),
        ];
        let set = to_set(&wishes, &config).unwrap();
        assert_eq!(set.keys().map(ConfigName::as_str).collect::<Vec<_>>(), ["KEY", "LEVEL"]);
        assert_eq!(set[&name("LEVEL")].reveal(), "3");
        assert_eq!(set[&name("KEY")].reveal().len(), 64);
        let synced = ConfigWish { sync: true, ..wish("MODE", Some("theirs"), false) };
        assert_eq!(to_set(&[synced], &config).unwrap()[&name("MODE")].reveal(), "theirs");
    }
}
