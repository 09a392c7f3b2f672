//! The durable side of deployments: the store and the router, as `deploy` asks for them.

use berth_deploy::{Launch, Records, RecordsError, Routing, Snapshot};
use berth_model::{
    AppId, DeploymentId, DeploymentState, InstanceId, InstanceRecord, ReleaseId, VolumeId,
};
use berth_store::{By, Store};

use crate::clock::now_ms;
use crate::router::Router;

/// Store and router together.
#[derive(Clone)]
pub struct StoreRecords {
    pub(crate) store: Store,
    pub(crate) router: Router,
}

/// Makes an error of doing `what`.
fn failed<E>(what: &'static str) -> impl FnOnce(E) -> RecordsError
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| RecordsError::new(what, source)
}

impl Records for StoreRecords {
    async fn apps(&self) -> Result<Vec<AppId>, RecordsError> {
        let mut apps = self.store.app_ids().await.map_err(failed("list the apps"))?;
        let destroyed = self.store.destroyed_apps().await.map_err(failed("list the apps"))?;
        apps.extend(destroyed.into_iter().map(|app| app.id));
        Ok(apps)
    }

    async fn snapshot(&self, app: AppId) -> Result<Option<Snapshot>, RecordsError> {
        let found = self.store.snapshot(app).await.map_err(failed("read the app"))?;
        Ok(found.map(|found| Snapshot {
            app: found.app,
            current: found.current,
            deployments: found.deployments,
            instances: found.instances,
            volumes: found.volumes,
        }))
    }

    async fn leftovers(&self, app: AppId) -> Result<Vec<InstanceRecord>, RecordsError> {
        self.store.live_instances(app).await.map_err(failed("read the instances"))
    }

    async fn launch(&self, release: ReleaseId) -> Result<Launch, RecordsError> {
        let (image, config) =
            self.store.launch(release).await.map_err(failed("read the release"))?;
        Ok(Launch { image, config })
    }

    async fn instance(&self, instance: InstanceId) -> Result<Option<InstanceRecord>, RecordsError> {
        self.store.instance(instance).await.map_err(failed("read the instance"))
    }

    async fn put_instance(&self, record: &InstanceRecord) -> Result<(), RecordsError> {
        self.store
            .put_instance(record, &By::system(now_ms()))
            .await
            .map_err(failed("write the instance"))
    }

    async fn volumes_made(&self, volumes: &[VolumeId]) -> Result<(), RecordsError> {
        self.store.volumes_made(volumes).await.map_err(failed("write the volumes"))
    }

    async fn advance(
        &self,
        deployment: DeploymentId,
        to: DeploymentState,
        at_ms: i64,
    ) -> Result<(), RecordsError> {
        self.store
            .advance_deployment(deployment, to, &By::system(at_ms))
            .await
            .map_err(failed("write the deployment"))
    }

    async fn switch(&self, deployment: DeploymentId, at_ms: i64) -> Result<(), RecordsError> {
        self.store
            .switch_deployment(deployment, &By::system(at_ms))
            .await
            .map_err(failed("write the switch"))
    }

    async fn finish(
        &self,
        deployment: DeploymentId,
        state: DeploymentState,
        error: Option<String>,
        at_ms: i64,
    ) -> Result<(), RecordsError> {
        self.store
            .finish_deployment(deployment, state, error, &By::system(at_ms))
            .await
            .map_err(failed("write the end of the deployment"))
    }

    async fn roll_back(
        &self,
        deployment: DeploymentId,
        error: String,
        at_ms: i64,
    ) -> Result<(), RecordsError> {
        self.store
            .roll_back_deployment(deployment, error, &By::system(at_ms))
            .await
            .map_err(failed("write the rollback"))
    }

    async fn publish(&self, _app: AppId) -> Result<(), RecordsError> {
        self.router.publish().await.map_err(failed("publish the routes"))
    }

    fn routing(&self, app: AppId) -> Routing {
        self.router.routing(app)
    }

    fn drain(&self, _instance: InstanceId, _limit_ms: u32) {
        // The router drains whatever leaves its table, and says when it has.
    }
}
