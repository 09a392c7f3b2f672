//! The host functions of `http-out`. A request is put together on the host's side, so its parts count
//! as memory of the guest until it is dropped.

use wasmtime::component::Resource;

use super::{State, ended, table};
use crate::powers::PowerError;
use crate::powers::http::{Refusal, Request};
use crate::powers::secrets::Secret;
use crate::powers::wit::berth::http_out::http_out;

impl State {
    /// Changes a request, and charges what it grew.
    fn change(
        &mut self,
        request: &Resource<Request>,
        change: impl FnOnce(&mut Request),
    ) -> wasmtime::Result<()> {
        let request = self.sandbox.table.get_mut(request)?;
        let before = request.bytes();
        change(request);
        let after = request.bytes();
        self.recharge(before, after).map_err(ended)
    }
}

impl http_out::Host for State {}

impl http_out::HostRequest for State {
    async fn new(&mut self, method: String, url: String) -> wasmtime::Result<Resource<Request>> {
        self.counted(method.len() + url.len()).map_err(ended)?;
        let request = Request {
            method,
            url: url.into_bytes(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: None,
        };
        let bytes = request.bytes();
        self.keep(request, bytes).map_err(ended)
    }

    async fn set_secret_url(
        &mut self,
        request: Resource<Request>,
        secret: Resource<Secret>,
    ) -> wasmtime::Result<()> {
        self.counted(0).map_err(ended)?;
        let url = self.sandbox.table.get(&secret)?.value.0.clone();
        self.change(&request, |request| request.url = url)
    }

    async fn set_header(
        &mut self,
        request: Resource<Request>,
        name: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<()> {
        self.counted(name.len() + value.len()).map_err(ended)?;
        self.change(&request, |request| request.set_header(name, value))
    }

    async fn set_secret_header(
        &mut self,
        request: Resource<Request>,
        name: String,
        prefix: String,
        secret: Resource<Secret>,
    ) -> wasmtime::Result<()> {
        self.counted(name.len() + prefix.len()).map_err(ended)?;
        let value = self.sandbox.table.get(&secret)?.value.clone();
        self.change(&request, |request| request.set_secret_header(name, prefix, &value))
    }

    async fn set_body(
        &mut self,
        request: Resource<Request>,
        body: Vec<u8>,
    ) -> wasmtime::Result<()> {
        self.counted(body.len()).map_err(ended)?;
        self.change(&request, |request| request.body = body)
    }

    async fn set_timeout_ms(
        &mut self,
        request: Resource<Request>,
        timeout_ms: u32,
    ) -> wasmtime::Result<()> {
        self.counted(0).map_err(ended)?;
        self.sandbox.table.get_mut(&request)?.timeout_ms = Some(timeout_ms);
        Ok(())
    }

    async fn send(&mut self, request: Resource<Request>) -> Result<http_out::Response, PowerError> {
        let request = self.sandbox.table.get(&request).map_err(table)?;
        self.counted(request.bytes())?;
        let request = request.allowed(&self.session.allowed).map_err(|refusal| match refusal {
            Refusal::Denied(denial) => self.denied("http", &denial.to_string()),
            Refusal::Invalid(error) => error,
        })?;
        let response = self.session.host.http(request).await?;
        Ok(http_out::Response {
            status: response.status,
            headers: response.headers,
            body: response.body,
            extra: Vec::new(),
        })
    }

    async fn drop(&mut self, request: Resource<Request>) -> wasmtime::Result<()> {
        let request = self.sandbox.table.delete(request)?;
        self.sandbox.memory.release(request.bytes() as u64);
        Ok(())
    }
}
