/* Answers every request with one line. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void) {
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT")))};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 64)) {
        perror("web");
        return 1;
    }
    for (;;) {
        char request[16384];
        int client = accept(listener, NULL, NULL);
        if (read(client, request, sizeof request) > 0)
            dprintf(client, "HTTP/1.1 200 OK\r\ncontent-length: 13\r\nconnection: close\r\n\r\nHello from C\n");
        close(client);
    }
}
