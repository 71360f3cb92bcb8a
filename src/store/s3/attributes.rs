//! What stands beside an object's content: how it is told to a server, and how it is read from an answer.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::StorageClass;

use super::version_of;
use crate::store::object::{Attributes, Head, NULL_VERSION};

/// Sets what goes beside the content; the requests that take it have nothing in common but these names.
macro_rules! with_attributes {
    ($request:expr, $attributes:expr) => {{
        let attributes = $attributes;
        let request = $request
            .set_content_type(attributes.content_type.clone())
            .set_cache_control(attributes.cache_control.clone())
            .set_content_disposition(attributes.content_disposition.clone())
            .set_content_encoding(attributes.content_encoding.clone())
            .set_content_language(attributes.content_language.clone())
            .set_metadata(Some(attributes.metadata.clone().into_iter().collect()));
        request.customize().mutate_request($crate::store::s3::attributes::expiring(attributes))
    }};
}
pub(super) use with_attributes;

/// Sets `Expires` to what it was. The SDK takes a date only, and what came from a server may be none.
pub(super) fn expiring(attributes: &Attributes) -> impl Fn(&mut HttpRequest) + Send + Sync + 'static + use<> {
    let expires = attributes.expires.clone();
    move |request| {
        if let Some(expires) = &expires {
            // It was a header's value when it was read, so it can be one again.
            let _ = request.headers_mut().try_insert("expires", expires.clone());
        }
    }
}

fn sorted(metadata: Option<&HashMap<String, String>>) -> BTreeMap<String, String> {
    metadata.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Servers that keep no versions of an object call the one there is `null`, or say nothing.
fn id(version: Option<&str>) -> Option<String> {
    version.filter(|id| *id != NULL_VERSION && !id.is_empty()).map(str::to_owned)
}

fn storage_class(class: Option<&StorageClass>) -> Option<String> {
    class.filter(|class| **class != StorageClass::Standard).map(|class| class.as_str().to_owned())
}

/// GET and HEAD answer with the same headers in two types that have nothing in common.
macro_rules! head_of {
    ($name:ident, $answer:ty) => {
        pub(super) fn $name(answer: &$answer) -> Head {
            let text = |text: Option<&str>| text.map(str::to_owned);
            Head {
                version: version_of(answer.e_tag(), answer.content_length(), answer.last_modified()),
                attributes: Attributes {
                    content_type: text(answer.content_type()),
                    cache_control: text(answer.cache_control()),
                    content_disposition: text(answer.content_disposition()),
                    content_encoding: text(answer.content_encoding()),
                    content_language: text(answer.content_language()),
                    expires: text(answer.expires_string()),
                    metadata: sorted(answer.metadata()),
                    mode: None,
                },
                id: id(answer.version_id()),
                tags: answer.tag_count().and_then(|count| u64::try_from(count).ok()),
                storage_class: storage_class(answer.storage_class()),
            }
        }
    };
}

head_of!(head_of_get, GetObjectOutput);
head_of!(head_of_head, HeadObjectOutput);
