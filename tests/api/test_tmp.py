from fastapi_offline import FastAPIOffline
from fastapi import FastAPI
from jobtrail.api.routes import install
from support.service import Service
from support.house import desk_at
import httpx, traceback
async def test_x(place):
    s = Service(desk_at(place), app=FastAPIOffline())
    install(s.app, s.door)
    for m in ("GET","HEAD","POST","OPTIONS"):
      for p in ("/docs","/redoc","/openapi.json","/docs/oauth2-redirect","/static-offline-docs/swagger-ui.css","/static-offline-docs/%00","/static-offline-docs/../../x","/static-offline-docs/"+"x"*300,"/static-offline-docs/"+"x/"*3000,"/static-offline-docs","/static-offline-docs/","/static-offline-docs/%ff","/static-offline-docs/\ud800", "/"):
        for q in (b"",b"\xff"):
            sent=[]
            async def receive(): return {"type":"http.request","body":b"","more_body":False}
            async def send(x): sent.append(x)
            import urllib.parse
            scope={"type":"http","asgi":{"version":"3.0"},"http_version":"1.1","method":m,"scheme":"http","path":urllib.parse.unquote(p) if "%ff" not in p else "/static-offline-docs/\ufffd","raw_path":b"/","query_string":q,"root_path":"","headers":[],"server":("t",80),"client":("a",1)}
            try:
                await s.app(scope,receive,send)
                st=sent[0]["status"]
            except BaseException as e:
                st=repr(e)[:100]
            if not isinstance(st,int) or st>=500: print(m,p[:60],q,st)
