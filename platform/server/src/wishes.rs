//! What an app's `app.json` wants in its configuration, and the configuration lacks.

use std::collections::BTreeSet;

use berth_build::manifest::ConfigWish;
use berth_model::AppId;
use berth_model::plan::{Change, Config, ConfigName, Secret};
use berth_store::{By, Store, StoreError};

/// Random bytes of a generated secret, shown as twice as many hex digits.
const SECRET_BYTES: usize = 32;

/// Changes of an app that may come between a look at it and the grant.
const TRIES_MAX: u32 = 100;

/// Sets what is wanted and lacking, without a release, and gives its names. What somebody sets at
/// the same time stays: the app must be as it was when it was looked at.
///
/// # Errors
/// In words for whoever pushes.
pub(crate) async fn grant(
    store: &Store,
    app: AppId,
    wishes: &[ConfigWish],
    at_ms: i64,
) -> Result<Vec<String>, String> {
    let failed = |error: StoreError| error.to_string();
    for _ in 0..TRIES_MAX {
        // The generation first: a configuration that is newer than it is refused below.
        let row = store.app(app).await.map_err(failed)?;
        let generation = row.ok_or_else(|| "the app was destroyed".to_owned())?.generation;
        let config = store.config(app).await.map_err(failed)?.1;
        let set = to_set(wishes, &config)?;
        if set.is_empty() {
            return Ok(Vec::new());
        }
        let names = set.keys().map(ToString::to_string).collect();
        let change = Change::Configure { set, unset: BTreeSet::new(), release: false };
        match store.change(Some(app), &change, Some(generation), &By::system(at_ms)).await {
            Ok(_) => return Ok(names),
            Err(StoreError::Changed { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err("the app is changed all the time; push again".to_owned())
}

/// The values to set: those of the file where nothing is set, and generated secrets.
///
/// # Errors
/// In words, when the system gives no random bytes.
fn to_set(wishes: &[ConfigWish], config: &Config) -> Result<Config, String> {
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_value_that_is_set_at_the_same_time_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.sqlite");
        let store = Store::open(&path, &[7; 32], "localhost").await.unwrap();
        let by = By::system(1);
        let mode: ConfigName = "MODE".parse().unwrap();
        for n in 0..50 {
            let name = format!("app-{n}").parse().unwrap();
            let create = Change::Create { name, team: store.default_team() };
            let app = store.change(None, &create, None, &by).await.unwrap().app.id;
            let mine = Config::from([(mode.clone(), Secret::new("mine"))]);
            let mine = Change::Configure { set: mine, unset: BTreeSet::new(), release: false };
            let setting = {
                let (store, by) = (store.clone(), by.clone());
                tokio::spawn(async move { store.change(Some(app), &mine, None, &by).await })
            };
            grant(&store, app, &[wish("MODE", Some("theirs"), false)], 1).await.unwrap();
            setting.await.unwrap().unwrap();
            let (_, config) = store.config(app).await.unwrap();
            assert_eq!(config[&mode].reveal(), "mine", "in round {n}");
        }
    }
}
