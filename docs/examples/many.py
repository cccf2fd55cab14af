"""Many prompts at once with asyncio: bounded, each with its deadline, refused ones tried again when the service says so.

python many.py ADDRESS < prompts, one a line
"""

import asyncio
import sys

import phi_serve


async def complete(client: phi_serve.AsyncClient, at_once: asyncio.Semaphore, prompt: str) -> str:
    async with at_once:
        for _ in range(5):
            try:
                return (await client.generate(prompt, max_new_tokens=64, timeout=60)).text
            except phi_serve.PhiError as error:
                if error.retry_after is None:
                    raise
                await asyncio.sleep(error.retry_after)
        raise RuntimeError("the service stayed full")


async def main() -> None:
    at_once = asyncio.Semaphore(16)
    prompts = [line.rstrip("\n") for line in sys.stdin]
    async with phi_serve.AsyncClient(sys.argv[1]) as client:
        for text in await asyncio.gather(*(complete(client, at_once, prompt) for prompt in prompts)):
            print(repr(text))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main())
