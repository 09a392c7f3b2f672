//! Pages of extensions of the kind `console`: which there are, and what one shows now.
//!
//! Each is asked when somebody looks. What it gives is judged before it is shown; what is not valid
//! counts as its fault, as a trap does.

use std::sync::Arc;

use berth_api::{ExtensionPage, ViewBlock};
use berth_extensions::console::Request;
use berth_model::AppId;
use berth_model::extension::{ExtensionId, Kind};
use berth_store::ExtensionState;

use super::hooks::unreachable_kind;
use super::{Callable, ExtensionError, Live, Registry, page_view};

/// The app that a panel is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelOf {
    /// Its id.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// What is known of it, JSON in the form of `berth apps info --json`.
    pub state: String,
}

impl Registry {
    /// The pages that an extension has now; none where it is of another kind.
    ///
    /// # Errors
    /// `Conflict` when it is not called, `NotCalled` when it failed or rests.
    pub async fn pages(&self, id: &ExtensionId) -> Result<Vec<ExtensionPage>, ExtensionError> {
        let Some(live) = self.console(id)? else { return Ok(Vec::new()) };
        let pages = self
            .call(&live, None, async |callable, session| match callable {
                Callable::Console(console) => {
                    console.pages(session).await.checked(page_view::pages)
                }
                _ => unreachable_kind(),
            })
            .await?;
        Ok(pages)
    }

    /// What a page shows now, or the panel of an app.
    ///
    /// # Errors
    /// As `pages`.
    pub async fn page(
        &self,
        id: &ExtensionId,
        page: &str,
        app: Option<PanelOf>,
    ) -> Result<Vec<ViewBlock>, ExtensionError> {
        let live = self.console(id)?.ok_or_else(|| {
            ExtensionError::Conflict(format!("{id} is of a kind that has no pages"))
        })?;
        let about = app.as_ref().map(|app| app.id);
        let (app, state) = app.map(|app| (app.name, app.state)).unzip();
        let request = Request { page: page.to_owned(), app, state, extra: Vec::new() };
        let blocks = self
            .call(&live, about, async |callable, session| match callable {
                Callable::Console(console) => {
                    let view = console.render(&request, session).await;
                    view.checked(|view| page_view::blocks(&view))
                }
                _ => unreachable_kind(),
            })
            .await?;
        Ok(blocks)
    }

    /// The extension, where it is of the kind that has pages and an operator wants it called.
    fn console(&self, id: &ExtensionId) -> Result<Option<Arc<Live>>, ExtensionError> {
        let live = self.live(id).ok_or_else(|| {
            let text = format!("{id} is not called: nothing was granted to it yet");
            ExtensionError::Conflict(text)
        })?;
        if live.row.version.manifest.kind != Kind::Console {
            return Ok(None);
        }
        match live.row.state {
            ExtensionState::Disabled => Err(ExtensionError::Conflict(format!(
                "the extension {id} is switched off; `berth ext resume {id}` switches it on"
            ))),
            ExtensionState::Waiting | ExtensionState::Active | ExtensionState::Quarantined => {
                Ok(Some(live))
            }
        }
    }
}
