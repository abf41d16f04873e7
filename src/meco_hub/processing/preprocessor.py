"""`PublishedProcessor`: pushing a processor alone, as one commit and with our errors."""

from typing import TYPE_CHECKING, Unpack

from ..publishing import PushOptions

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


class PublishedProcessor:
    """Mixin of processors, before transformers' own base."""

    def push_to_hub(self, repo_id: str, **options: Unpack[PushOptions]) -> "CommitInfo":
        """Push this processor's config into a repository, whose other files stay as they are; one commit.

        A model's `push_to_hub` brings its processor along: this is for changing the processor alone.

        Args:
            repo_id: "owner/name"; made when it does not exist.
            private, revision, create_pr, commit_message, token: as for a model's `push_to_hub`.

        Raises:
            PublishingError: the Hub did not take it; says whether the remote changed, and what to do.
        """
        from ..publishing.objects import push_processor  # above this module; needed by few

        return push_processor(self, repo_id, **options)
