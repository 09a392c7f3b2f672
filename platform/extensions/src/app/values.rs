//! Values that apps keep, as the worker asks the control process for them.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_model::AppId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What an app asks of its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask", deny_unknown_fields)]
pub enum ValueCall {
    /// -> `Value`.
    Get {
        /// Which.
        key: String,
    },
    /// -> `Done`, false when only an absent key was meant and it is there.
    Put {
        /// Which.
        key: String,
        /// What.
        #[serde(serialize_with = "write", deserialize_with = "read")]
        value: Vec<u8>,
        /// It is forgotten after so many milliseconds.
        ttl_ms: Option<u64>,
        /// Only when it is not there.
        absent_only: bool,
    },
    /// -> `Done`, false when it was not there.
    Remove {
        /// Which.
        key: String,
    },
    /// -> `Keys`.
    Keys {
        /// How they begin.
        prefix: String,
        /// At most so many.
        count_max: u32,
    },
}

/// The answer to a [`ValueCall`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer", deny_unknown_fields)]
pub enum ValueAnswer {
    /// The value, where it is there.
    Value {
        /// It.
        #[serde(serialize_with = "write_some", deserialize_with = "read_some")]
        value: Option<Vec<u8>>,
    },
    /// Whether something was done.
    Done {
        /// It was.
        done: bool,
    },
    /// Keys in the order of their bytes.
    Keys {
        /// They.
        keys: Vec<String>,
    },
    /// It was not done.
    Failed {
        /// `quota`, `unavailable`.
        code: String,
        /// For people.
        message: String,
        /// Whether trying again may help.
        retry: bool,
    },
}

impl std::fmt::Debug for ValueAnswer {
    /// Without values: they are the app's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Value { .. } => "Value",
            Self::Done { .. } => "Done",
            Self::Keys { .. } => "Keys",
            Self::Failed { code, .. } => return write!(f, "Failed({code})"),
        })
    }
}

impl ValueAnswer {
    /// Nobody who could answer is there.
    pub fn unavailable() -> Self {
        Self::Failed {
            code: "unavailable".to_owned(),
            message: "the platform cannot be asked for values at the moment; try again".to_owned(),
            retry: true,
        }
    }
}

/// Has the values of apps. It answers in bounded time, also when nobody is there.
#[async_trait]
pub trait AppValues: Send + Sync + 'static {
    /// Asks for an app.
    async fn ask(&self, app: AppId, call: ValueCall) -> ValueAnswer;
}

/// Nobody has them: everything is unavailable.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoValues;

#[async_trait]
impl AppValues for NoValues {
    async fn ask(&self, _: AppId, _: ValueCall) -> ValueAnswer {
        ValueAnswer::unavailable()
    }
}

fn write<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

fn write_some<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    bytes.as_ref().map(|bytes| STANDARD.encode(bytes)).serialize(serializer)
}

fn read_some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| STANDARD.decode(text).map_err(serde::de::Error::custom)).transpose()
}
