//! Kinds of add-ons: found by name, asked what they consist of.

use std::sync::Arc;

use berth_extensions::addon::Request;
use berth_model::addon::Spec;
use berth_model::extension::Kind;
use berth_store::ExtensionState;
use serde_json::Value;

use super::hooks::unreachable_kind;
use super::live::with_defaults;
use super::{Callable, Live, NotCalled, Registry};

impl Registry {
    /// The extension that describes this kind of add-on: by its id, or by its name alone where one
    /// has it.
    ///
    /// # Errors
    /// In words, when there is none, or more than one.
    pub(crate) fn addon_kind(&self, kind: &str) -> Result<Arc<Live>, String> {
        let named = |live: &Arc<Live>| {
            let id = live.row.id.as_str();
            id == kind || id.split_once('.').is_some_and(|(_, name)| name == kind)
        };
        let all = self.of_kind(Kind::Addon);
        let mut found: Vec<_> = all.iter().filter(|live| named(live)).cloned().collect();
        match (found.pop(), found.is_empty()) {
            (Some(live), true) if live.row.state == ExtensionState::Active => Ok(live),
            (Some(live), true) => Err(format!("the extension {} is switched off", live.row.id)),
            (Some(_), false) => {
                let shown = berth_model::text::printable(kind, 80);
                Err(format!("several extensions are called '{shown}'; write the whole id"))
            }
            (None, _) => {
                let shown = berth_model::text::printable(kind, 80);
                let known: Vec<_> = all.iter().map(|live| live.row.id.to_string()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(format!(
                    "no kind of add-on is called '{shown}'; installed are: {known}. Install one \
                     with `berth ext install`"
                ))
            }
        }
    }

    /// What an add-on consists of, as the extension says.
    pub(crate) async fn provision(
        &self,
        live: &Arc<Live>,
        request: &Request,
    ) -> Result<Spec, NotCalled> {
        self.call(live, None, async |callable, session| match callable {
            Callable::Addon(addon) => addon.provision(request, session).await,
            _ => unreachable_kind(),
        })
        .await
    }

    /// What writes a backup of an add-on.
    pub(crate) async fn backup_command(
        &self,
        live: &Arc<Live>,
        request: &Request,
    ) -> Result<Vec<String>, NotCalled> {
        self.call(live, None, async |callable, session| match callable {
            Callable::Addon(addon) => addon.backup(request, session).await,
            _ => unreachable_kind(),
        })
        .await
    }

    /// What reads a backup of an add-on.
    pub(crate) async fn restore_command(
        &self,
        live: &Arc<Live>,
        request: &Request,
    ) -> Result<Vec<String>, NotCalled> {
        self.call(live, None, async |callable, session| match callable {
            Callable::Addon(addon) => addon.restore(request, session).await,
            _ => unreachable_kind(),
        })
        .await
    }
}

impl Live {
    /// What was chosen for an add-on, with the defaults of the manifest's schema.
    ///
    /// # Errors
    /// In words, what the schema does not allow.
    pub(crate) fn options(&self, chosen: &Value) -> Result<Value, String> {
        let schema = &self.row.version.manifest.config_schema;
        let validator = jsonschema::validator_for(schema)
            .map_err(|error| format!("the schema of {} is not usable: {error}", self.row.id))?;
        validator.validate(chosen).map_err(|error| {
            format!("the options do not fit {}: {}: {error}", self.row.id, error.instance_path())
        })?;
        // What the operator configured stands for what nobody chose.
        let mut options = self.row.config.clone();
        if let (Some(options), Some(chosen)) = (options.as_object_mut(), chosen.as_object()) {
            options.extend(chosen.clone());
        }
        Ok(with_defaults(schema, &options))
    }
}
