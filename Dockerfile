# Built in one image, run in another: the second holds the program and nothing to build with.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /app

# The dependencies and our own crates, in a layer that stays while they do.
COPY Cargo.toml Cargo.lock ./
COPY crates crates
RUN mkdir -p src benches/site && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs benches/micro.rs benches/site/main.rs \
    && cargo build --release --locked \
    && rm -r src benches

COPY . .
# Cargo goes by the time of a file, and these may be older than the empty ones they replace.
RUN touch src/main.rs src/lib.rs build.rs && cargo build --release --locked

FROM debian:bookworm-slim
RUN useradd --system --user-group --create-home --home-dir /data tasklist
COPY --from=build /app/target/release/tasklist /usr/local/bin/tasklist
USER tasklist
WORKDIR /data
ENV DEVELOPMENT_MODE=False PORT=8080
EXPOSE 8080
CMD ["tasklist", "serve"]
